"""Wrong uses and bad files, one by one: one line, a shell's exit status, no traceback, no hang."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from emu.samples.checksum import program

# Offsets in a 64-bit ELF file (System V gABI, chapters 4 and 5).
E_TYPE, E_MACHINE, E_PHOFF, E_PHNUM, P_OFFSET, P_FILESZ, P_MEMSZ = 16, 18, 32, 56, 72, 96, 104
UBOOT = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"


def patched(at: int, value: int, width: int = 8) -> bytes:
    """The sample program with one field of its headers changed."""
    file = bytearray(program())
    file[at : at + width] = value.to_bytes(width, "little")
    return bytes(file)


def overlapping() -> bytes:
    """The sample program with its segment listed twice."""
    file = program()
    header = bytearray(file[:64])
    header[E_PHNUM : E_PHNUM + 2] = (2).to_bytes(2, "little")
    header[E_PHOFF : E_PHOFF + 8] = len(file).to_bytes(8, "little")
    return bytes(header) + file[64:] + 2 * file[64:120]


FILES = {
    "empty": b"",
    "short": b"\x7fELF",
    "text": b"echo hello\n",
    "cut": program()[:100],
    "mips": patched(E_MACHINE, 8, 2),
    "object": patched(E_TYPE, 1, 2),
    "big-endian": patched(5, 2, 1),
    "wrong-class": patched(4, 1, 1),
    "many-headers": patched(E_PHNUM, 0xFFFE, 2),
    "far-headers": patched(E_PHOFF, 1 << 63),
    "far-segment": patched(P_OFFSET, (1 << 64) - 4096),
    "large-in-file": patched(P_FILESZ, 1 << 40),
    "huge": patched(P_MEMSZ, 1 << 62),
    "no-interpreter": b"#!/no/such/interpreter\n",
    "own-interpreter": b"#!own-interpreter\n",
    "overlapping": overlapping(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with FILES, a file that is not executable, and a folder."""
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "unexecutable").write_bytes(program())
    (tmp_path / "right").write_bytes(program())
    (tmp_path / "right").chmod(0o755)
    (tmp_path / "folder").mkdir()
    return tmp_path


ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}


INSTALLED = Path(sys.executable).parent / "emu"
EMU = [str(INSTALLED)] if INSTALLED.exists() else [sys.executable, "-m", "emu"]


def emu(
    folder: Path, *words: str, stdout: int | TextIO = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """One command line, run in the folder, with a minute to end."""
    return subprocess.run(
        [*EMU, *words],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def told(folder: Path, *words: str) -> tuple[int, str]:
    """The exit status and the one line that emu has for a command line."""
    run = emu(folder, *words)
    assert run.stdout == ""
    assert run.stderr.startswith("emu: ")
    assert run.stderr.count("\n") == 1
    return run.returncode, run.stderr[5:-1]


@pytest.mark.parametrize("name", [*FILES, "unexecutable", "folder"])
def test_what_cannot_be_executed_is_126(folder: Path, name: str) -> None:
    status, line = told(folder, f"./{name}")
    assert status == 126
    assert name.removeprefix("no-") in line


@pytest.mark.parametrize("name", ["./missing", "missing", "missing/below", "right/below"])
def test_what_is_not_there_is_127(folder: Path, name: str) -> None:
    status, line = told(folder, name)
    assert status == 127
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["", "no\nsuch", "no\x1b[31msuch", "no\udcffsuch", "missing/" * 600])
def test_a_strange_name_is_told_in_one_printable_line(folder: Path, name: str) -> None:
    status, line = told(folder, name)
    assert status in (126, 127)
    assert line.isprintable()


@pytest.mark.parametrize("name", ["fifo", "socket", "/dev/null", "/dev/zero", "/proc/self/mem", "loop"])
def test_what_is_no_file_is_126_and_is_not_waited_for(folder: Path, name: str) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    (folder / "loop").symlink_to("loop")
    assert told(folder, name if name.startswith("/") else f"./{name}")[0] == 126
    for option in ("--kernel", "--firmware"):
        status, line = told(folder, "boot", option, name)
        assert status == 2
        assert name in line


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["doctor"]], ids=" ".join)
def test_output_that_cannot_be_written_is_told(folder: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        run = emu(folder, *words, stdout=full)
    assert run.returncode == 2
    assert run.stderr == "emu: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["--version", "./missing", "--help", "boot", "./right"])
def test_closed_streams_make_no_traceback(folder: Path, closed: str, words: str) -> None:
    shell = f'"$@" {words} {closed}'
    run = subprocess.run(
        ["sh", "-c", shell, "sh", *EMU],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in run.stderr
    assert run.returncode == {"./missing": 127, "boot": 2}.get(words, 0)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--accel", "kvm", "./right"], "this one is aarch64; use --accel tcg"),
        (["--accel", "hvf", "./right"], "no accelerator is called 'hvf'"),
        (["-L", "missing", "./right"], "sysroot missing is no directory"),
        (["-L", "right", "./right"], "sysroot right is no directory"),
        (["boot"], "nothing to boot; give --firmware FILE, --kernel FILE or an image"),
        (["boot", "--machine", "toaster", "--firmware", "x"], "no board is called 'toaster'"),
        (["boot", "--arch", "vax", "--firmware", "x"], "vax"),
        (["boot", "--firmware", "missing"], "missing does not exist"),
        (["boot", "--firmware", "folder"], "folder is a directory"),
        (["boot", "--firmware", "/dev/zero"], "/dev/zero is no regular file"),
        (["boot", "--accel", "kvm", "--firmware", "text"], "this one is aarch64; use --accel tcg"),
        (["boot", "--cpus", "999", "--firmware", "text"], "999 CPUs"),
        (["boot", "--memory", "0", "--firmware", "text"], "0"),
        (["boot", "--memory", "much", "--firmware", "text"], "much"),
        (["boot", "--serial", "tin-can", "--firmware", "text"], "no serial line is called 'tin-can'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_use_is_2(folder: Path, words: list[str], cause: str) -> None:
    status, line = told(folder, *words)
    assert status == 2
    assert cause in line


@pytest.mark.parametrize("name", ["short", "cut", "far-headers", "far-segment", "huge", "mips"])
def test_a_bad_kernel_is_told(folder: Path, name: str) -> None:
    status, line = told(folder, "boot", "--kernel", name)
    assert status in (2, 126)
    assert line


def test_firmware_that_is_larger_than_its_flash_is_told(folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(1 << 30)
    status, line = told(folder, "boot", "--firmware", "large")
    assert status in (2, 126)
    assert "large" in line


def test_of_a_name_that_is_too_long_the_end_is_told_with_the_cause(folder: Path) -> None:
    done = emu(folder, "/" + "a" * 5000)
    assert (done.returncode, done.stderr.count("\n")) == (126, 1)
    assert "aaa: too long" in done.stderr
