"""Kernels that are entered by PVH: the state they find, what they are told, and files that lie."""

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from accel.errors import BadImage, DeviceError
from emu import Machine
from emu.backends.chardev import MemoryChardev
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, initrd, vmlinux
from tests.emu.pvh_guest import BASE, CODE, EM_386, EM_X86_64, STATE, kernel, note
from tests.emu.test_pc_linux import PATIENCE

MAGIC, VERSION = 0x336E_C578, 1
# Base, limit, and type with the other bits of the descriptor: code, data, a busy task of 32 bits.
SEGMENTS = {
    "cs": [0, 0xFFFF_FFFF, 0xC09B],
    "ds": [0, 0xFFFF_FFFF, 0xC093],
    "es": [0, 0xFFFF_FFFF, 0xC093],
    "ss": [0, 0xFFFF_FFFF, 0xC093],
    "tr": [0, 0x67, 0x8B],
}


def printed(accel, image, board="microvm", **options):
    line = MemoryChardev()
    with Machine(board, accel=accel, kernel=image, serial=line, **options) as machine:
        result = machine.run(timeout=PATIENCE)
        segments = {
            name: list(machine.cpus[0].vcpu.get(f"{name}_base", f"{name}_limit", f"{name}_attr"))
            for name in SEGMENTS
        }
        segments["tr"][2] |= 2  # Unicorn keeps a task's type as it was before it became busy
    assert (result.reason, result.code) == ("guest-shutdown", 0x43), result
    assert segments == SEGMENTS
    return bytes(line.output)


@pytest.mark.parametrize("kind", [EM_X86_64, EM_386], ids=["x86-64", "i386"])
def test_a_kernel_finds_the_state_of_the_boot_abi(accel, kind):
    told = printed(accel.name, kernel(kind=kind), initrd=b"a RAM disk", append="two words")
    cr0, cr4, flags = STATE.unpack_from(told)
    assert (cr0 & ~0x10, cr4, flags) == (1, 0, 0)  # ET has no meaning
    assert told[STATE.size :] == struct.pack("<III", MAGIC, VERSION, 0) + b"two wordsa RAM disk"


def qemus(folder, board, *options):
    """What the kernel prints on QEMU's board."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        pytest.skip("qemu-system-x86_64, whose PVH is compared with ours, is not installed")
    for name, data in (("kernel", kernel()), ("initrd", b"a RAM disk")):
        (folder / name).write_bytes(data)
    words = [program, "-M", board, "-accel", "tcg", "-nodefaults", "-display", "none", "-no-reboot"]
    words += ["-serial", "file:out", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    words += ["-kernel", "kernel", "-initrd", "initrd", "-append", "two words", *options]
    done = subprocess.run(words, cwd=folder, timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode == 0x43, done.stderr
    return (folder / "out").read_bytes()


def test_what_a_kernel_is_told_is_what_qemu_tells_it(tmp_path):
    theirs = qemus(tmp_path, "microvm")
    ours = printed("tcg", kernel(), initrd=b"a RAM disk", append="two words")
    assert ours[STATE.size :] == theirs[STATE.size :]
    assert STATE.unpack_from(ours)[1:3] == STATE.unpack_from(theirs)[1:3]


def test_without_acpi_the_command_line_tells_of_virtio_devices(tmp_path):
    form = rb"virtio_mmio\.device=\w+@0xfeb0(\w+):\d+"
    theirs = qemus(tmp_path, "microvm,acpi=off", "-device", "virtio-rng-device")
    assert re.search(form, theirs)
    for options in ({"append": "acpi=off two words"}, {"board": "microvm,acpi=off", "append": "two words"}):
        ours = printed("tcg", kernel(), virtio=[VirtioRng(), VirtioRng()], **options)
        words = ours[STATE.size + 12 :].split()
        assert words[-2:] == [b"two", b"words"]
        assert [re.fullmatch(form, word)[1] for word in words[:2]] == [b"0000", b"0200"]


def test_the_board_has_acpi_or_not():
    with pytest.raises(DeviceError, match="use on or off"):
        Machine("microvm,acpi=maybe", accel="tcg", kernel=kernel())
    with pytest.raises(DeviceError, match="has no option 'colour'"):
        Machine("microvm,colour=red", accel="tcg", kernel=kernel())


def test_debians_kernel_boots_uncompressed():
    screen = Screen()
    with Machine(
        "microvm",
        accel="tcg",
        ram=256 << 20,
        kernel=vmlinux(),
        initrd=initrd("cat /proc/cmdline; dmesg | grep -E 'RSDP|usable$'; nproc", (), "amd64"),
        append="console=ttyS0 quiet emu=here",
        serial=screen,
    ) as guest:
        result = guest.run(timeout=PATIENCE)
    text = screen.text
    assert result.reason == "guest-shutdown", text[-2000:]
    assert "console=ttyS0 quiet emu=here\n" in text
    assert "RSDP 0x00000000000E0000" in text
    assert "[mem 0x0000000000100000-0x000000000fffffff] usable" in text


def test_notes_of_others_are_passed_over():
    notes = note(b"GNU", 3, b"12345") + note(b"Xen", 6, b"linux") + note()
    assert printed("tcg", kernel(notes=notes), append="x").endswith(b"x")


@pytest.mark.parametrize(
    ("notes", "options", "reason"),
    [
        (note(description=b""), {}, "PVH entry has 0 bytes"),
        (note(description=bytes(7)), {}, "PVH entry has 7 bytes"),
        (note(description=struct.pack("<I", BASE - 1)), {}, "lies in none of its segments"),
        (note(description=struct.pack("<I", BASE + len(CODE))), {}, "lies in none of its segments"),
        (note(description=struct.pack("<Q", BASE | 1 << 32)), {}, "lies in none of its segments"),
        (note(), {"append": "x" * (1 << 20)}, "this kernel takes"),
        (note(), {"initrd": bytes(17 << 20)}, "initrd"),
        (note(b"Xen", 17), {"initrd": b"disk"}, "takes no initrd"),
        (note(b"Ken"), {"append": "words"}, "takes no command line"),
        (note()[:-2], {"append": "words"}, "takes no command line"),
        (struct.pack("<III", 0xFFFF_FFFF, 4, 18) + b"Xen\0", {"append": "words"}, "takes no command line"),
        (b"", {"append": "words"}, "takes no command line"),
    ],
)
def test_what_cannot_be_is_said(notes, options, reason):
    with (
        Machine("microvm", accel="tcg", ram=16 << 20, kernel=kernel(notes=notes), **options) as machine,
        pytest.raises(BadImage, match=reason),
    ):
        machine.start()


@pytest.mark.parametrize("option", ["initrd", "append"])
def test_a_raw_image_takes_neither_initrd_nor_command_line(option):
    given = {option: b"disk" if option == "initrd" else "words"}
    with (
        Machine("microvm", accel="tcg", kernel=b"\xf4", **given) as machine,
        pytest.raises(BadImage, match="it takes no"),
    ):
        machine.start()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (0x1_0000, "lies over what the kernel is told"),
        (0xF_0000, "lies over the machine's tables"),
        (0xFFFF_F000, "lies over the boot ROM"),
        (0x1000_0000, "no memory at 0x10000000"),
        (0xB000_0000_0000_0000, "no memory"),
    ],
)
def test_a_segment_where_none_can_be_is_refused(address, reason):
    image = bytearray(kernel(notes=note(description=struct.pack("<Q", address))))
    struct.pack_into("<QQ", image, 64 + 16, address, address)
    with (
        Machine("microvm", accel="tcg", ram=16 << 20, kernel=bytes(image)) as machine,
        pytest.raises(BadImage, match=reason),
    ):
        machine.start()


@pytest.mark.parametrize("kind", [EM_X86_64, EM_386], ids=["x86-64", "i386"])
def test_the_command_needs_to_be_told_no_board(tmp_path, kind):
    (tmp_path / "kernel").write_bytes(kernel(kind=kind))
    words = ["--accel", "tcg", "--kernel", "kernel", "--append", "some words"]
    done = subprocess.run(
        [sys.executable, "-m", "emu", "boot", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout[-10:]) == (0x43, b"some words"), done.stderr


def test_a_file_for_another_cpu_is_refused_whatever_its_notes_say():
    with (
        Machine("microvm", accel="tcg", kernel=kernel(kind=(183, 2))) as machine,
        pytest.raises(BadImage, match="it is for aarch64"),
    ):
        machine.start()
