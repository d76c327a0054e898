"""Debian's U-Boot on every board, driven through a pseudo-terminal as a person would."""

import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.conftest import usable
from tests.emu.linux_guest import image, initrd

FIRMWARE = Path("/usr/lib/u-boot")
# Board, architecture, accelerator, firmware.
GUESTS = [
    pytest.param("virt", "aarch64", "tcg", "qemu_arm64/u-boot.bin", id="virt-aarch64-tcg"),
    pytest.param("virt", "arm", "tcg", "qemu_arm/u-boot.bin", id="virt-arm-tcg"),
    pytest.param("virt", "riscv64", "tcg", "qemu-riscv64/u-boot.bin", id="virt-riscv64-tcg"),
    pytest.param("microvm", "x86_64", "kvm", "qemu-x86/u-boot.rom", id="microvm-x86_64-kvm"),
    pytest.param("microvm", "x86_64", "tcg", "qemu-x86/u-boot.rom", id="microvm-x86_64-tcg"),
]
PROMPT = b"\r\n=> "


def firmware(name):
    path = FIRMWARE / name
    if not path.exists():
        pytest.skip(f"{path} is not there; install u-boot-qemu")
    return str(path)


@pytest.mark.parametrize(("board", "arch", "accel", "image"), GUESTS)
def test_u_boot_gives_its_prompt_and_answers(terminal, board, arch, accel, image):
    usable(accel)
    boot = terminal("-M", board, "--arch", arch, "--accel", accel, "--firmware", firmware(image))
    boot.prompt()
    assert boot.raw()
    assert "U-Boot 20" in boot.command("version")
    assert "relocaddr" in boot.command("bdinfo")
    address = {"virt": 0x4000_0000, "microvm": 0}[board] if arch != "riscv64" else 0x8000_0000
    assert f"{address:08x}: " in boot.command(f"md {address:x} 4")
    boot.command(f"mw {address + 0x100000:x} deadbeef 2")
    assert "deadbeef deadbeef" in boot.command(f"md {address + 0x100000:x} 2")
    boot.type(b"\x01x")
    assert boot.ended() == 0
    assert boot.restored()


@pytest.mark.parametrize(("board", "arch", "accel", "image"), GUESTS)
def test_u_boot_resets_the_machine_and_starts_again(terminal, board, arch, accel, image):
    usable(accel)
    boot = terminal("-M", board, "--arch", arch, "--accel", accel, "--firmware", firmware(image))
    boot.prompt()
    boot.type(b"reset\r")
    boot.prompt()
    assert "U-Boot 20" in boot.command("version")
    boot.type(b"\x01x")
    assert boot.ended() == 0


def test_u_boot_starts_linux_on_a_pc(terminal, tmp_path):
    (tmp_path / "kernel").write_bytes(image("amd64"))
    script = (
        "cat /proc/cmdline; dmesg | grep -ciE 'ACPI (BIOS|Error)'; cat /sys/bus/virtio/devices/virtio*/uevent"
    )
    (tmp_path / "initrd").write_bytes(initrd(script, ("virtio_mmio",), "amd64"))
    files = ("--kernel", str(tmp_path / "kernel"), "--initrd", str(tmp_path / "initrd"))
    boot = terminal(
        *("-M", "microvm", "--accel", "tcg", "--firmware", firmware("qemu-x86/u-boot.rom"), "-m", "256"),
        *(*files, "--append", "console=ttyS0 quiet emu=here"),
    )
    boot.prompt()
    # Behind what the kernel unpacks itself to.
    assert "initrd 08000000" in boot.command("qfw load 2000000 8000000")
    boot.type(b"zboot 2000000 0 8000000 ${filesize}\r")
    seen = boot.wait_for(b"Power down", 300).decode()
    assert "emu=here\r\n0\r\n" in seen.replace("\r\r", "\r"), seen
    assert seen.count("DRIVER=") + seen.count("MODALIAS=virtio:") >= 2
    assert boot.ended() == 0


@pytest.mark.parametrize(("board", "arch", "accel", "image"), GUESTS[:3])
def test_u_boot_switches_the_machine_off(terminal, board, arch, accel, image):
    boot = terminal("-M", board, "--arch", arch, "--accel", accel, "--firmware", firmware(image))
    boot.prompt()
    boot.type(b"poweroff\r")
    assert boot.ended() == 0
    assert boot.restored()


@pytest.mark.parametrize(("board", "arch", "accel", "image"), GUESTS[:3])
def test_u_boot_reads_the_boards_device_tree(terminal, board, arch, accel, image):
    boot = terminal("-M", board, "--arch", arch, "--accel", accel, "--firmware", firmware(image), "-m", "256")
    boot.prompt()
    boot.command("fdt addr ${fdtcontroladdr}")
    memory = 0x8000_0000 if arch == "riscv64" else 0x4000_0000
    text = boot.command(f"fdt print /memory@{memory:x}")
    assert f"reg = <0x00000000 0x{memory:08x} 0x00000000 0x10000000>" in text
    assert "stdout-path" in boot.command("fdt print /chosen")
    assert 'device_type = "cpu"' in boot.command("fdt print /cpus")
    boot.type(b"\x01x")
    assert boot.ended() == 0


def test_the_escape_character_tells_help_and_sends_itself(terminal):
    boot = terminal("--firmware", firmware("qemu_arm64/u-boot.bin"))
    boot.prompt()
    boot.type(b"\x01h")
    boot.wait_for(b"end the machine")
    # Ctrl-A moves U-Boot's cursor to the start of the line: xecho becomes the echo of x's
    boot.type(b"cho typed\x01\x01e\r")
    assert b"typed" in boot.wait_for(PROMPT)
    boot.type(b"\x01X")
    assert boot.ended() == 0


def test_ctrl_c_goes_to_the_guest(terminal):
    boot = terminal("--firmware", firmware("qemu_arm64/u-boot.bin"))
    boot.prompt()
    boot.type(b"sleep 1000\r")
    boot.wait_for(b"sleep 1000")
    boot.type(b"\x03")
    boot.wait_for(PROMPT)
    assert boot.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_machine_and_the_terminal_is_as_before(terminal, number):
    boot = terminal("--firmware", firmware("qemu_arm64/u-boot.bin"))
    boot.wait_for(b"Hit any key")
    assert boot.raw()
    boot.process.send_signal(number)
    assert boot.ended() in (128 + number, -number)
    assert boot.restored()


def test_raw_mode_comes_back_after_a_stop_of_the_shell(terminal):
    boot = terminal("--firmware", firmware("qemu_arm64/u-boot.bin"))
    boot.prompt()
    boot.process.send_signal(signal.SIGSTOP)
    # A stop that has not taken place yet would be cancelled by what continues it.
    os.waitid(os.P_PID, boot.process.pid, os.WSTOPPED)
    termios.tcsetattr(boot.slave, termios.TCSANOW, boot.before)
    boot.process.send_signal(signal.SIGCONT)
    end = time.monotonic() + 20
    while not boot.raw():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert "U-Boot 20" in boot.command("version")
    boot.type(b"\x01x")
    assert boot.ended() == 0
    assert boot.restored()


RAISES = """
from emu import Device, Machine, Reg

class Broken(Device):
    size = 4
    GO = Reg(0)

    def write_GO(self, value):
        raise ZeroDivisionError("in a hook")

# mov x1, #0x0b000000; str w2, [x1]; b .
code = b"".join(word.to_bytes(4, "little") for word in (0xD2A16001, 0xB9000022, 0x14000000))
with Machine("virt", kernel=code, accel="tcg", serial="stdio", devices=[(Broken(), 0x0B000000)]) as machine:
    machine.run()
"""


def test_the_terminal_is_as_before_when_a_device_raises(terminal):
    boot = terminal(command=["-c", RAISES])
    boot.wait_for(b"ZeroDivisionError: in a hook")
    assert boot.ended() == 1
    assert boot.restored()


def test_a_reader_that_goes_away_ends_the_command_as_it_does_others():
    boot = subprocess.Popen(
        [sys.executable, "-m", "emu", "boot", "--firmware", firmware("qemu_arm64/u-boot.bin")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    boot.stdout.readline()
    boot.stdout.close()
    assert boot.wait(60) == -signal.SIGPIPE
    assert boot.stderr.read() == b""
    boot.stderr.close()


def test_closed_standard_streams_do_no_harm(tmp_path):
    image = tmp_path / "kernel"
    # mov w0, #0x84000008 (PSCI SYSTEM_OFF); hvc #0
    image.write_bytes(b"".join(word.to_bytes(4, "little") for word in (0x52800100, 0x72B08000, 0xD4000002)))
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -m emu boot --kernel '{image}' <&- >&-"],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_guest_that_hangs_is_ended_by_ctrl_a_x(terminal, tmp_path):
    image = tmp_path / "spin"
    image.write_bytes((0x14000000).to_bytes(4, "little"))  # b .
    boot = terminal("--kernel", str(image))
    end = time.monotonic() + 20
    while not boot.raw():
        assert time.monotonic() < end
        time.sleep(0.02)
    boot.type(b"more than a receiver that nobody empties has room for" * 10)
    boot.type(b"\x01x")
    assert boot.ended() == 0
    assert boot.restored()


def test_a_timeout_ends_with_the_status_of_timeout_1(terminal, tmp_path):
    image = tmp_path / "spin"
    image.write_bytes((0x14000000).to_bytes(4, "little"))
    boot = terminal("--kernel", str(image), "--timeout", "0.5")
    assert boot.ended() == 124
    assert boot.restored()


def test_input_from_a_pipe_waits_until_the_guest_takes_it():
    done = subprocess.run(
        [sys.executable, "-m", "emu", "boot", "--firmware", firmware("qemu_arm64/u-boot.bin")],
        input=b"\rversion\rpoweroff\r",
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert b"aarch64-linux-gnu-gcc" in done.stdout
    assert done.stderr == b""
