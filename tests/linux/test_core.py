"""A guest that a signal kills: whether it dumped core, as natively, and the core, as gdb reads it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.linux.conftest import emulate

PATTERN = Path("/proc/sys/kernel/core_pattern").read_text().strip()
ENOUGH = 1 << 30
WAYS = [
    (0, "fault"),
    (4095, "fault"),
    (4096, "fault"),
    (ENOUGH, "fault"),
    (ENOUGH, "undumpable"),
    *((ENOUGH, str(int(number))) for number in (signal.SIGABRT, signal.SIGQUIT, signal.SIGTERM)),
    *((ENOUGH, str(int(number))) for number in (signal.SIGXCPU, signal.SIGBUS, signal.SIGKILL)),
]


def wait_status(command: list[str], folder: Path) -> int:
    """The whole wait status of a command, with the core flag."""
    folder.mkdir(exist_ok=True)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.DEVNULL)
    return os.waitpid(process.pid, 0)[1]


def emu(*words: object) -> list[str]:
    return [sys.executable, "-m", "emu", *map(str, words)]


@pytest.mark.parametrize(("limit", "how"), WAYS)
def test_the_core_flag_is_set_where_it_is_natively(limit, how, build, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: there is no native program to compare with")
    words = [str(limit), how]
    expected = wait_status([build("crash", "x86_64"), *words], tmp_path / "native")
    assert wait_status(emu(build("crash", "aarch64"), *words), tmp_path / "emu") == expected
    done = subprocess.run(
        [build("crash", "x86_64"), *words, "child"], cwd=tmp_path / "native", capture_output=True, text=True
    )
    assert emulate(build("crash", "aarch64"), *words, "child", cwd=tmp_path / "emu").stdout == done.stdout
    natively = {path.name for path in (tmp_path / "native").iterdir()}
    assert {path.name for path in (tmp_path / "emu").iterdir()} == natively or "%" in PATTERN


def plain_pattern() -> None:
    if PATTERN != "core" or Path("/proc/sys/kernel/core_uses_pid").read_text().strip() != "0":
        pytest.skip(f"cores do not go to a file called core here: core_pattern is {PATTERN}")


def test_a_debugger_reads_the_guests_core(isa, build, tmp_path):
    plain_pattern()
    if shutil.which("gdb-multiarch") is None:
        pytest.skip("gdb-multiarch is not installed")
    program = build("crash", isa, "-g", "-O1", "-static")
    assert wait_status(emu(program, ENOUGH, "fault"), tmp_path) == signal.SIGSEGV | 0x80
    core = tmp_path / "core"
    assert [path.name for path in tmp_path.iterdir()] == ["core"]
    assert core.stat().st_mode & 0o777 == 0o600
    assert core.stat().st_blocks * 512 < 16 << 20
    wanted = ["bt", "print greeting", "print $_siginfo._sifields._sigfault.si_addr", "info proc mappings"]
    command = ["gdb-multiarch", "-q", "-nx", "-batch", *(word for ask in wanted for word in ("-ex", ask))]
    shown = subprocess.run([*command, program, core], capture_output=True, text=True, timeout=120).stdout
    assert "terminated with signal SIGSEGV" in shown
    assert "inner (at=at@entry=0x8, x=x@entry=7)" in shown
    assert "outer (at=at@entry=0x8)" in shown
    assert '"Hello from the guest"' in shown
    assert "= (void *) 0x8" in shown
    assert str(program) in shown.partition("Start Addr")[2]


def test_a_core_is_cut_off_at_the_limit(build, tmp_path):
    plain_pattern()
    assert wait_status(emu(build("crash", "aarch64"), 65536, "fault"), tmp_path) == signal.SIGSEGV | 0x80
    assert (tmp_path / "core").stat().st_size == 65536


@pytest.mark.parametrize("kind", ["folder", "link", "other-rights"])
def test_what_the_kernel_would_not_replace_stays(kind, build, tmp_path):
    plain_pattern()
    core = tmp_path / "core"
    if kind == "folder":
        core.mkdir()
    elif kind == "link":
        core.symlink_to(tmp_path / "elsewhere")
    else:
        core.write_text("old")
        core.chmod(0o644)
    before = core.lstat()
    assert wait_status(emu(build("crash", "aarch64"), ENOUGH, "fault"), tmp_path) == signal.SIGSEGV
    after = core.lstat()
    assert (after.st_ino, after.st_size, after.st_mode) == (before.st_ino, before.st_size, before.st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["core"]


def test_a_confined_guests_core_lies_in_its_root(build, tmp_path):
    plain_pattern()
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(build("crash", "aarch64"), root / "crash")
    outside = tmp_path / "outside"
    command = emu("--root", root, "/crash", ENOUGH, "fault")
    assert wait_status(command, outside) == signal.SIGSEGV | 0x80
    assert (root / "core").read_bytes()[:4] == b"\x7fELF"
    assert list(outside.iterdir()) == []


def test_who_is_watched_leaves_one_core_as_well(build, tmp_path):
    plain_pattern()
    program = build("crash", "aarch64")
    assert wait_status(emu("--strace", program, ENOUGH, "fault"), tmp_path) == signal.SIGSEGV | 0x80
    assert [path.name for path in tmp_path.iterdir()] == ["core"]
    assert (tmp_path / "core").read_bytes()[18:20] == (183).to_bytes(2, "little")
