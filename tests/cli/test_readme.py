"""README's two set-up commands; its others are executed with the documentation's (test_docs.py)."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.pages import ROOT, blocks

SHELL = blocks("README.md", "sh")
SETUP = [body.strip() for body in SHELL if body.startswith("sh scripts/")]


def test_the_two_commands_come_first_and_are_two() -> None:
    assert SHELL[:2] == ["sh scripts/demo\n", "sh scripts/test\n"]
    assert len(SETUP) == 2


@pytest.mark.parametrize(("command", "harmless"), list(zip(SETUP, (" --help", " --version"), strict=True)))
def test_a_set_up_command_does_nothing_the_second_time(command: str, harmless: str, tmp_path: Path) -> None:
    """Run with an option that makes what follows the set-up short, from another directory."""
    if not (ROOT / ".venv" / "installed").exists():
        pytest.skip("these tests were not started by scripts/test, and setting up anew takes minutes")
    before = (ROOT / ".venv" / "installed").stat().st_mtime_ns
    words = command.replace("scripts/", f"{ROOT}/scripts/") + harmless
    environ = {**os.environ, "EMU_NO_APT": "1"}
    run = subprocess.run(
        words, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "installing emu" not in run.stderr
    assert (ROOT / ".venv" / "installed").stat().st_mtime_ns == before
