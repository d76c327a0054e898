"""`emu top`: machines are found without being told of it, and what it shows is what the kernel counts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emu import presence
from emu.top import size, span
from tests.emu.terminal import Terminal

TOP = ("-m", "emu", "top")
SPIN = (0x1400_0000).to_bytes(4, "little")  # b .
ASLEEP = (0xD503_207F).to_bytes(4, "little") + (0x17FF_FFFF).to_bytes(4, "little")  # wfi; b .-4


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "emu"


@pytest.fixture
def start(tmp_path, runtime):
    """start(kernel, *options): a machine that emu top can see; ended with the test."""
    started = []

    def start(kernel, *options):
        path = tmp_path / f"kernel{len(started)}"
        path.write_bytes(kernel)
        words = ["boot", "--arch", "aarch64", "--accel", "tcg", "--serial", "null", "--kernel", str(path)]
        process = subprocess.Popen([sys.executable, "-m", "emu", *words, *options])
        started.append(process)
        if "--no-top" not in options:
            until(lambda: (runtime / str(process.pid)).exists())
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(60)
    assert list(runtime.iterdir()) == []


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def top(*options, **environ):
    return subprocess.run(
        [sys.executable, "-m", "emu", "top", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environ},
    ).stdout


def rows():
    return {row["name"]: row for row in json.loads(top("--once", "--json", "-d", "0.5"))}


def ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_two_machines_are_shown_with_what_the_kernel_says_of_them(start):
    spins = start(SPIN, "--name", "spins", "-m", "64")
    sleeps = start(ASLEEP, "--name", "sleeps", "--paused")
    until(lambda: ticks(spins.pid) > 1)
    before = ticks(spins.pid)
    shown = rows()
    after = ticks(spins.pid)
    assert {name: row["pid"] for name, row in shown.items()} == {"spins": spins.pid, "sleeps": sleeps.pid}
    assert shown["spins"]["status"] == "running"
    assert shown["sleeps"]["status"] == "prelaunch"
    assert before - 0.05 <= shown["spins"]["process-time"] <= after + 0.05
    assert 0 < shown["spins"]["cpu-time-rate"] < 1.1
    assert shown["sleeps"]["cpu-time-rate"] == 0
    assert shown["spins"]["memory-maximum"] == 64 << 20
    resident = int(Path(f"/proc/{spins.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert abs(shown["spins"]["memory-resident"] - resident) < 8 << 20


def test_a_table_fits_its_width_and_has_no_colours_where_no_terminal_is(start):
    start(ASLEEP, "--name", "a name that is longer than the column for it \x1b[2J")
    for width in (40, 60, 80, 132):
        text = top("--once", "-d", "0.1", COLUMNS=str(width))
        assert all(len(line) <= width for line in text.splitlines())
        assert "\x1b" not in text
        assert ("UP" in text) == (width == 132)
    assert "READ/s" in top("--once", "-d", "0.1", COLUMNS="80")


def test_a_machine_that_hangs_is_silent_and_the_others_are_shown(start):
    start(ASLEEP, "--name", "answers")
    hangs = start(ASLEEP, "--name", "hangs")
    terminal = Terminal("-d", "0.1", command=TOP)
    terminal.wait_for(b"hangs")
    hangs.send_signal(signal.SIGSTOP)
    terminal.wait_for(b"silent")
    terminal.wait_for(b"answers")
    hangs.send_signal(signal.SIGCONT)
    terminal.type(b"q")
    assert terminal.ended() == 0


def test_a_machine_may_hide(start, runtime):
    start(ASLEEP, "--name", "seen")
    start(ASLEEP, "--name", "hidden", "--no-top", "--qmp", f"unix:{runtime.parent}/q,server=on,wait=off")
    until((runtime.parent / "q").exists)
    assert list(rows()) == ["seen"]


def test_files_that_were_left_behind_are_removed(runtime):
    runtime.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(runtime / "1"))
        left.listen()
    assert json.loads(top("--once", "--json")) == []
    assert list(runtime.iterdir()) == []


def test_a_folder_that_others_may_write_to_is_not_believed(runtime):
    runtime.mkdir(0o700)
    runtime.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(runtime / "1"))
        other.listen()
        assert presence.connections(set()) == {}
        assert "no machine runs" in top("--once")


@pytest.mark.parametrize("end", [b"q", signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_as_before_whatever_ends_it(end, runtime):
    terminal = Terminal(command=TOP)
    terminal.wait_for(b"no machine runs")
    assert not terminal.restored()
    if isinstance(end, bytes):
        terminal.type(end)
    else:
        terminal.process.send_signal(end)
    terminal.wait_for(b"\x1b[?25h\x1b[?1049l")
    terminal.ended()
    assert terminal.restored()


def test_no_colours_where_they_are_not_wanted(runtime):
    terminal = Terminal(command=TOP, env={**os.environ, "NO_COLOR": "1"})
    shown = terminal.wait_for(b"no machine runs")
    assert b"\x1b[1m" not in shown
    terminal.type(b"q")
    terminal.ended()


def test_sizes_and_times_are_short():
    assert [size(n) for n in (0, 999, 1000, 1536, 10 << 20, 1 << 40)] == [
        *("0B", "999B", "1.0K", "1.5K", "10M", "1.0T"),
    ]
    assert [span(n) for n in (5, 3600, 400_000)] == ["0:05", "1:00:00", "4d15h"]
