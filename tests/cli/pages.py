"""Pages for people (README.md, docs/*.md): what stands in their fenced blocks is executed by tests.

A block marked `sh` is what a reader types, `python` a program of theirs; `text` and others are only shown.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accel.errors import Unavailable

ROOT = Path(__file__).parent.parent.parent


def blocks(page: str, kind: str) -> list[str]:
    """The bodies of the blocks of one kind, from top to bottom; `page` is relative to the repository."""
    found = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [body for its_kind, body in found if its_kind == kind]


def run_block(block: str, user: dict[str, Any]) -> str:
    """What a block of commands prints, run by the `user` of conftest.py; one that fails fails the test."""
    if "gdb-multiarch" in block and shutil.which("gdb-multiarch") is None:
        pytest.skip("gdb-multiarch is not installed (apt-get install gdb-multiarch)")
    for firmware in re.findall(r"--firmware (/\S+)", block):
        if not Path(firmware).exists():
            pytest.skip(f"{firmware} is not installed, which the commands boot")
    if "emu shell" in block or "unshare" in block:
        from emu.roots.namespace import obstacle

        if cause := obstacle():
            pytest.skip(cause)
    if "samples.debian" in block:
        from emu.samples.debian import unpacked

        try:
            for closure, package, arch in re.findall(r"samples\.debian (--closure )?(\S+) (\w+)", block):
                unpacked(package, arch, closure=bool(closure))
        except Unavailable as error:
            pytest.skip(f"the commands fetch a program of Debian's: {error}")
    run = subprocess.run(["sh", "-e", "-c", block], capture_output=True, text=True, **user)
    # A root that emu shell has unpacked is kept by its archive's place, where none is again.
    for kept in re.findall(r"stays in (\S+)/root$", run.stderr, re.MULTILINE):
        shutil.rmtree(kept)
        Path(f"{kept}.lock").unlink()
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def run_python(program: str, user: dict[str, Any]) -> str:
    run = subprocess.run(["python", "-c", program], capture_output=True, text=True, **user)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def place(folder: Path) -> dict[str, Any]:
    """Makes `folder` a user's, whose .venv has the emu and python under test; options for a process."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    for name, words in (("python", ""), ("emu", "-m emu ")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} {words}"$@"\n')
        script.chmod(0o755)
    (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
    (folder / "examples").symlink_to(ROOT / "examples")
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    return {"cwd": folder, "env": environ, "timeout": 300, "check": False}
