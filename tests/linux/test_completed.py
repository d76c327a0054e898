"""emu.run: subprocess.run for programs of other ISAs; the oracle is subprocess.run and the host's shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import emu
from accel.errors import EmuError
from emu.linux.completed import PIPE, STDOUT, CalledProcessError, TimeoutExpired
from emu.linux.process import NoProgram, Process

PIECES: list[dict[str, Any]] = [
    {"capture_output": True},
    {"capture_output": True, "text": True},
    {"stdout": PIPE, "stderr": STDOUT},
    {"stdout": PIPE, "text": True},
]


@pytest.fixture
def shell() -> str:
    from accel.errors import Unavailable
    from emu.samples.debian import unpacked

    try:
        return str(unpacked("busybox-static", "arm64") / "bin" / "busybox")
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("options", PIECES, ids=str)
def test_streams_and_status_are_those_of_subprocess(shell: str, options: dict[str, Any]) -> None:
    script = "printf 'a\\r\\nb\\303'; echo to stderr >&2; exit 3"
    ours = emu.run([shell, "sh", "-c", script], **options)
    theirs = subprocess.run(
        ["sh", "-c", script], **options, errors="surrogateescape" if "text" in options else None
    )
    for each in (ours, theirs):
        assert isinstance(each, subprocess.CompletedProcess)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


@pytest.mark.parametrize("size", [0, 1, 65536, 1 << 20])
def test_input_of_any_size_comes_back_from_cat(shell: str, size: int) -> None:
    data = os.urandom(size)
    assert emu.run([shell, "cat"], input=data, capture_output=True).stdout == data


def test_input_that_nobody_reads_is_no_error(shell: str) -> None:
    assert emu.run([shell, "true"], input=bytes(1 << 20), capture_output=True).returncode == 0


def test_no_file_is_left_open_and_no_child_alive(shell: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    emu.run([shell, "cat"], input=b"x", capture_output=True)
    with pytest.raises(TimeoutExpired):
        emu.run([shell, "sleep", "1000"], capture_output=True, timeout=0.3)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_signal_s_death_and_check_are_those_of_subprocess(shell: str) -> None:
    assert emu.run([shell, "sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL
    with pytest.raises(CalledProcessError, match="status 3") as caught:
        emu.run([shell, "sh", "-c", "echo said; exit 3"], check=True, capture_output=True)
    assert caught.value.stdout == b"said\n"


def test_the_environment_is_the_one_given(shell: str) -> None:
    done = emu.run([shell, "env"], env={"ONE": "1"}, capture_output=True, text=True)
    assert done.stdout == "ONE=1\n"


@pytest.mark.parametrize("hooked", [False, True])
def test_a_time_out_kills_the_program_and_tells_what_it_said(shell: str, hooked: bool) -> None:
    with Process(shell, [shell, "sh", "-c", "echo said; sleep 1000"], stdout=PIPE) as process:
        if hooked:
            process.on_syscall("openat", lambda call: None)
        with pytest.raises(TimeoutExpired, match=r"timed out after 0\.5 seconds"):
            process.run(timeout=0.5)
        assert (process.stdout, process.returncode, process.pid) == (b"said\n", -signal.SIGKILL, None)


@pytest.mark.parametrize("hooked", [False, True])
def test_wait_with_a_time_out_can_be_called_again(shell: str, hooked: bool) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as given, Process(shell, [shell, "cat"], stdin=given, stdout=PIPE) as process:
        calls: list[str] = []
        if hooked:
            process.on_syscall("write", lambda call: calls.append(call.name))
        pid = process.start()
        with pytest.raises(TimeoutExpired):
            process.wait(timeout=0.1)
        assert process.pid == pid
        assert process.returncode is None
        os.write(writing, b"late\n")
        os.close(writing)
        assert process.wait(timeout=60) == 0
        assert process.stdout == b"late\n"
        assert calls == ["write"] * hooked


def test_mistakes_are_errors(shell: str) -> None:
    with pytest.raises(NoProgram):
        emu.run("/no/such/program")
    with pytest.raises(ValueError, match="stdin and input"):
        emu.run([shell], input=b"", stdin=PIPE)
    with Process(shell, [shell, "true"]) as process, pytest.raises(EmuError, match="stdin=PIPE"):
        process.run(b"x")


@pytest.mark.parametrize("hooked", [False, True])
def test_ctrl_c_is_raised_from_run_and_leaves_no_program(shell: str, hooked: bool) -> None:
    """Only this process is sent the signal, as by an editor's stop button."""
    with Process(shell, [shell, "sleep", "1000"]) as process:
        if hooked:
            process.on_syscall("openat", lambda call: None)

        def interrupt() -> None:
            while process.pid is None:
                time.sleep(0.01)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            process.run(timeout=60)
        thread.join()
        assert process.pid is None
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def test_importing_emu_imports_nothing_that_it_does_not_need() -> None:
    program = "import sys; before = set(sys.modules); import emu; print(sorted(set(sys.modules) - before))"
    root = Path(emu.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, timeout=60, check=True
    )
    assert done.stdout == "['emu']\n"
