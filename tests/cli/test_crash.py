"""A mistake of emu's own: one line, a report that says what is needed to find it, and no secrets."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emu import __version__, cli
from emu.cli import crash

# Arm: movz x1, #0x900, lsl #16; str w0, [x1]; b .: a byte for virt's UART.
WRITES = bytes.fromhex("0120a1d2 200000b9 00000014")


def script(patch, *words):
    """emu with these words, in which a module is patched."""
    code = f"import sys\n{patch}\nfrom emu.cli import main\nsys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *words]


def run(command, home, **variables):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("EMU_")}
    environ |= {
        "XDG_STATE_HOME": str(home),
        "PYTHONPATH": str(Path(cli.__file__).parents[2]),
        "SECRET": "hush",
    }
    return subprocess.run(
        command, env=environ | variables, capture_output=True, text=True, timeout=120, check=False
    )


def the_report(done, home):
    """Of the one report that there is, the text; the line that tells of it names it."""
    (path,) = (home / "emu").glob("crash-*.txt")
    assert done.stderr.splitlines()[-1].endswith(f"please report it, with the file {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text()


def test_it_is_one_line_and_a_report(tmp_path):
    patch = "import emu.doctor\nemu.doctor.examine = lambda *_: {}['x']"
    done = run(script(patch, "doctor", "--kvm-device", "/a b"), tmp_path, EMU_ENGINE="unicorn")
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith("emu: KeyError: 'x' (<string>:3): a mistake of emu's own; ")
    assert done.stderr.count("\n") == 1
    text = the_report(done, tmp_path)
    for part in (
        "\n$ emu doctor --kvm-device '/a b'\n",
        "\nEMU_ENGINE=unicorn\n",
        f"\nemu {__version__}\n",
        "\nunicorn ",
        "\nTraceback (most recent call last):\n",
        "in main\n",
        "\nKeyError: 'x'\n",
        "\nemu doctor\n",
        f"\n  emu          {__version__}, ",
        "\n  tcg          usable",
    ):
        assert part in text, part
    assert "hush" not in text


def test_the_traceback_can_be_had_at_once(tmp_path):
    patch = "import emu.doctor\nemu.doctor.examine = lambda *_: {}['x']"
    done = run(script(patch, "doctor"), tmp_path, EMU_TRACEBACK="1")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert "\nKeyError: 'x'\nemu: KeyError: 'x'" in done.stderr


def test_a_machine_s_cpus_are_in_the_report(tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(WRITES)
    patch = "import emu.devices.pl011\nemu.devices.pl011.Pl011.write_DR = lambda self, value: 1 // 0"
    words = ("boot", "--arch", "aarch64", "--accel", "tcg", "--serial", "null", "--kernel", str(kernel))
    done = run(script(patch, *words), tmp_path)
    assert done.returncode == 70
    assert done.stderr.startswith("emu: ZeroDivisionError: ")
    text = the_report(done, tmp_path)
    assert re.search(r"^CPU 0:\n +x0 [0-9a-f]{16} +x1 0{8}09000000", text, re.MULTILINE)
    assert "str w0, [x1]" in text


def test_reports_do_not_pile_up_and_may_have_no_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(crash, "doctor", lambda: "fine")
    folder = tmp_path / "emu"
    folder.mkdir()
    for number in range(30):
        (folder / f"crash-20200101-0000{number:02}-1.txt").touch()
    (folder / "snapshots").mkdir()
    path = Path(crash.written(ValueError("x"), "emu", []))
    kept = sorted(folder.glob("crash-*.txt"))
    assert len(kept) == crash.KEPT
    assert kept[-1] == path
    assert (folder / "snapshots").is_dir()
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    monkeypatch.setattr(crash, "gettempdir", lambda: str(tmp_path))
    assert crash.told(ValueError("x"), "emu", []).endswith(f"{tmp_path}/{path.name}")
    monkeypatch.setattr(crash, "gettempdir", lambda: "/dev/null")
    assert "no report could be written (Not a directory)" in crash.told(ValueError("x"), "emu", [])


def test_a_mistake_in_the_report_s_making_is_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("emu.cli.version.facts", lambda: 1 // 0)
    monkeypatch.setattr(crash, "doctor", lambda: "fine")
    assert "versions: ZeroDivisionError" in Path(crash.written(ValueError("x"), "emu", [])).read_text()


def test_too_little_memory_is_no_mistake_of_ours(monkeypatch, capsys):
    def fails(*_):
        raise MemoryError

    monkeypatch.setattr("emu.doctor.main", fails)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "emu: there is not enough memory; see ulimit -v and free\n"


def test_a_fault_of_the_machine_s_process_says_where_it_was(tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_bytes((0x1400_0000).to_bytes(4, "little"))
    words = ["boot", "--arch", "aarch64", "--accel", "tcg", "--serial", "null", "--kernel", str(kernel)]
    process = subprocess.Popen(
        [sys.executable, "-m", "emu", *words, "--qmp", f"unix:{tmp_path}/qmp,server=on,wait=off"],
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (tmp_path / "qmp").exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGSEGV)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in told
    assert "steer" in told


@pytest.mark.parametrize("words", [["--version"], ["top", "--once"]])
def test_nothing_is_written_where_nothing_is_wrong(words, tmp_path):
    assert run([sys.executable, "-m", "emu", *words], tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_emu_doctor_that_fails_for_a_report_starts_no_other(monkeypatch):
    def started(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setenv(crash.REPORTING, "1")
    monkeypatch.setattr("subprocess.run", started)
    assert crash.doctor() == "it is emu doctor that has failed"
