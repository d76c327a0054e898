"""`emu boot`: wrong uses are one line and status 2, and serial lines end where they are told to."""

import argparse
import subprocess
import sys

import pytest

from accel.errors import DeviceError, GuestFault
from emu.boot import size
from emu.loader import x86_rom
from tests.conftest import usable

SPIN = (0x14000000).to_bytes(4, "little")


def boot(*options, seconds=60):
    return subprocess.run(
        [sys.executable, "-m", "emu", "boot", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


WRONG = {
    "nothing to boot; give --firmware FILE, --kernel FILE or an image": (),
    "firmware /nonexistent does not exist": ("--firmware", "/nonexistent"),
    "firmware / is a directory": ("--firmware", "/"),
    "no board is called 'toaster'": ("-M", "toaster", "--kernel", "KERNEL"),
    "board microvm is not made for arm": ("-M", "microvm", "--arch", "arm", "--kernel", "KERNEL"),
    "is no size of memory": ("--kernel", "KERNEL", "-m", "lots"),
    "bytes of RAM: this board takes": ("--kernel", "KERNEL", "-m", "1k"),
    "kvm runs only guests of the host's own architecture": ("--kernel", "KERNEL", "--accel", "kvm"),
    "no accelerator is called 'warp'": ("--kernel", "KERNEL", "--accel", "warp"),
    "no serial line is called 'modem'": ("--kernel", "KERNEL", "--serial", "modem"),
    "cannot both be stdio": ("--kernel", "KERNEL", "--serial", "stdio", "--serial", "stdio"),
    "two lines cannot both be stdio": ("--kernel", "KERNEL", "--serial", "stdio", "--console", "stdio"),
    "this board has no debug port": ("--kernel", "KERNEL", "--debugcon", "null"),
    "no serial line is called 'lpt'": ("-M", "microvm", "--kernel", "KERNEL", "--debugcon", "lpt"),
    "--channel agent: give NAME=END": ("--kernel", "KERNEL", "--channel", "agent"),
    "for a serial line cannot be written: Is a directory": (
        "--kernel",
        "KERNEL",
        "--serial",
        "file:/",
    ),
    "and there is room for 0x4000000; use a smaller image": ("--firmware", "BIG"),
    "no network is called 'ethernet'": ("--kernel", "KERNEL", "--net", "ethernet"),
    "--share /nonexistent: No such file": ("--kernel", "KERNEL", "--share", "/nonexistent"),
    "--drive: no option is called 'colour'": ("--kernel", "KERNEL", "--drive", "KERNEL,colour=red"),
    "5 CPUs: this board has 1 to 1, since Unicorn carries one CPU": ("--kernel", "KERNEL", "--cpus", "5"),
}


@pytest.mark.parametrize("cause", WRONG)
def test_a_wrong_use_is_one_line_and_status_2(cause, tmp_path):
    (tmp_path / "KERNEL").write_bytes(SPIN)
    with open(tmp_path / "BIG", "wb") as big:
        big.truncate((64 << 20) + 1)
    words = [str(tmp_path / word) if word in ("KERNEL", "BIG") else word for word in WRONG[cause]]
    done = boot(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("emu: ")
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_names_the_options():
    done = boot("--help")
    assert done.returncode == 0
    for option in ("--machine", "--firmware", "--kernel", "--serial", "--accel", "--memory"):
        assert option in done.stdout


# mov x1, #0x09000000; mov w2, #'A'; str w2, [x1]; mov w0, #0x84000008 (PSCI SYSTEM_OFF); hvc #0; b .
PRINT_A = b"".join(
    word.to_bytes(4, "little")
    for word in (0xD2A12001, 0x52800822, 0xB9000022, 0x52800100, 0x72B08000, 0xD4000002, 0x14000000)
)


@pytest.mark.parametrize("words", ["nan", "-1", "soon"])
def test_what_is_no_time_is_refused(words):
    done = boot("--kernel", "/nonexistent", f"--timeout={words}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"emu: --timeout: '{words}': a value as SECONDS is expected; ")
    assert done.stderr.count("\n") == 1


def test_triple_faults_without_end_are_ended(tmp_path, monkeypatch):
    from emu import boot as command
    from emu import run_state

    monkeypatch.setattr(run_state, "AT_ONCE", 1 << 62)
    (tmp_path / "kernel").write_bytes(b"\x0f\x01\x1d\x00\x00\x00\x00\xcc")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["-M", "microvm", "--accel", "tcg", "--serial", "null", "--kernel", str(tmp_path / "kernel")]
    with pytest.raises(GuestFault, match="0x100008 of CPU 0, at once after every reset") as caught:
        command.main(parser.parse_args(words))
    assert "int3" in caught.value.report


def test_a_serial_line_may_end_in_a_file(tmp_path):
    (tmp_path / "kernel").write_bytes(PRINT_A)
    done = boot("--kernel", str(tmp_path / "kernel"), "--serial", f"file:{tmp_path / 'out'}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out").read_bytes() == b"A"


def test_the_path_of_a_pty_is_told(tmp_path):
    (tmp_path / "kernel").write_bytes(PRINT_A)
    done = boot("--kernel", str(tmp_path / "kernel"), "--serial", "pty")
    assert done.returncode == 0
    assert done.stderr.startswith("emu: serial line 0 is /dev/pts/")


def test_standard_output_gets_what_the_guest_printed(tmp_path):
    (tmp_path / "kernel").write_bytes(PRINT_A)
    done = boot("--kernel", str(tmp_path / "kernel"))
    assert (done.returncode, done.stdout) == (0, "A")


@pytest.mark.parametrize(
    ("words", "bytes_"),
    [("1", 1 << 20), ("256M", 256 << 20), ("2G", 2 << 30), ("64k", 64 << 10), ("1GiB", 1 << 30)],
)
def test_sizes_are_mib_unless_they_say_otherwise(words, bytes_):
    assert size(words) == bytes_


@pytest.mark.parametrize("words", ["", "M", "-1", "1.5G", "1Q", "0x10", "1MM", "9" * 5000])
def test_what_is_no_size_is_refused(words):
    with pytest.raises(DeviceError, match="is no size of memory"):
        size(words)


def test_an_elf_kernel_chooses_its_board(tmp_path):
    from tests.emu.test_machine import FINISHING, elf

    (tmp_path / "kernel").write_bytes(elf(data=FINISHING.replace(b"\xb7\x12\x00\x0b", b"\xb7\x02\x10\x00")))
    done = boot("--kernel", str(tmp_path / "kernel"))
    assert (done.returncode, done.stderr) == (0, "")


# fldz; mov ecx, 3; popcnt eax, ecx; loop; mov al, 0xfe; out 0x64, al: the keyboard controller resets
COUNTED = bytes.fromhex("d9ee b903000000 f30fb8c1 e2fa b0fe e664 ebfe")


@pytest.mark.parametrize(("engine", "cpus"), [("tcg", 1), ("kvm", 1), ("kvm", 2)])
def test_stats_tell_who_ran_the_guest_and_what_kvm_refused(engine, cpus, tmp_path):
    usable(engine)
    from accel.kvm.device import emulates_cpl0

    rom = bytearray(x86_rom.long_mode(x86_rom.BASE + 0x8FE0))
    rom[0x8FE0 : 0x8FE0 + len(COUNTED)] = COUNTED
    (tmp_path / "rom").write_bytes(rom)
    done = boot(
        *("-M", "microvm", "--accel", engine, "--cpus", str(cpus), "--firmware", str(tmp_path / "rom")),
        *("--serial", "null", "--no-reboot", "--stats"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert sum(line.startswith(f"emu: {engine} ran {cpus} CPU") for line in lines) == 1, lines
    for number in range(cpus):
        assert any(line.startswith(f"emu: CPU {number} took ") for line in lines), lines
        exits = [line for line in lines if line.startswith(f"emu: CPU {number}, kvm: ") and "exits" in line]
        assert len(exits) == (engine == "kvm"), lines
    refused = engine == "kvm" and emulates_cpl0()
    counted = [line.split()[-2:] for line in lines if line.startswith("emu: CPU 0, kvm: ")]
    assert (["3", "popcnt"] in counted, ["1", "fldz"] in counted) == (refused, refused), lines
