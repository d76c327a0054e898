"""emu's pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROJECT = ROOT / "examples" / "pytest_project"
if not any(entry.value == "emu.pytest_plugin" for entry in entry_points(group="pytest11")):
    pytest.skip("emu is not installed here, so that pytest does not find its plugin", allow_module_level=True)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_example_project_s_tests_pass() -> None:
    done = run(PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout or "7 passed, 1 skipped" in done.stdout


def test_a_failure_s_report_has_what_was_said_and_machines_are_closed(tmp_path: Path) -> None:
    (tmp_path / "test_failing.py").write_text("""
import sys
from emu.samples import checksum
from emu.samples.dialogue import kernel

made = []

def test_console(emu_machine):
    made.append(emu_machine(arch="aarch64", kernel=kernel()))
    made[0].console.expect("name? ")
    made[0].console.sendline("Ada")
    made[0].console.expect("goodbye", timeout=0.5)

def test_program(emu_process, tmp_path):
    program = tmp_path / "checksum"
    program.write_bytes(checksum.program())
    program.chmod(0o755)
    assert not emu_process(program, input="hello").stdout

def test_passing(emu_machine):
    assert made[0]._closed
    assert made[0].state == "shutdown"
    emu_machine(arch="aarch64", kernel=kernel()).console.expect("name? ")
""")
    done = run(tmp_path, "--emu-accel=tcg")
    text = done.stdout
    assert done.returncode == 1, text + done.stderr
    assert "2 failed, 1 passed" in text
    assert "NotSeen: 0.5 s have passed without 'goodbye' on the console; its last lines:" in text
    _, _, said = text.partition("- console of virt (emu_machine 0) -")
    assert "hello, Ada" in said
    assert "exit status 0\naarch64 3610a686\n" in text
    assert text.count("(emu_machine 0)") == 1, "the report of a test that passes has a console"


def test_options_are_errors_of_one_line_where_they_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(emu_machine):\n    emu_machine()\n")
    done = run(tmp_path, "--emu-accel=fast")
    assert "no accelerator is called 'fast'" in done.stdout
    done = run(tmp_path, "--emu-timeout=soon")
    assert "--emu-timeout 'soon' is no number of seconds" in done.stdout


def test_runs_that_do_not_use_it_import_nothing_of_emu_but_it(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("""
import sys

def test_other():
    names = {name for name in sys.modules if name.split(".")[0] in ("emu", "accel", "isa")}
    assert names == {"emu", "emu.pytest_plugin"}
    assert "cffi" not in sys.modules
""")
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "--emu-accel=SPEC" in run(tmp_path, "--help").stdout
