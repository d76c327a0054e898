"""What guests' processes see of each other and of themselves in /proc; nobody writes to a program that runs.

The oracle is the host's kernel, for the same program natively.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import usable
from tests.linux.conftest import emulate

ENVIRON = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "COLOUR": "blue"}
GUESTS = [("aarch64", "tcg"), ("arm", "tcg"), ("x86_64", "kvm")]


def natively(build, folder: Path) -> str:
    if platform.machine() != "x86_64":
        pytest.skip("the oracle is an x86-64 host's kernel")
    done = subprocess.run(
        [build("kin", "native"), "look"], cwd=folder, env=ENVIRON, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("confined", [False, True], ids=["", "in a root"])
@pytest.mark.parametrize(("guest", "accel"), GUESTS)
def test_a_child_is_seen_as_natively(guest, accel, confined, build, tmp_path):
    usable(accel)
    expected = natively(build, tmp_path)
    assert "while it runs: Text file busy" in expected
    assert "listed: 1 1" in expected
    program = tmp_path / "kin"
    shutil.copy(build("kin", guest), program)
    words = ["--root", tmp_path, "/kin"] if confined else [program]
    done = emulate(*words, "look", accel=accel, cwd=tmp_path, env=ENVIRON)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected


def test_processes_outside_the_tree_stay_invisible_in_a_root(build, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("secret\n")
    shutil.copy(build("kin", "aarch64"), root / "kin")
    command = 'exec 40<"$1" && shift && exec "$@"'  # a descriptor of what is outside, which its child has too
    words = [sys.executable, "-m", "emu", "--root", root, "/kin", "look-outside", str(os.getpid())]
    bash = ["bash", "-c", command, "bash", tmp_path, *words]
    done = subprocess.run(bash, cwd=root, env=ENVIRON, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) > 25
    assert not re.search(r"\b(OPEN|STAT|DONE)\b", done.stdout)
    assert "listed 0" in lines
    nothing = ", ".join(["No such file or directory"] * 4)
    assert lines[1] == f"/stat: {nothing}"
