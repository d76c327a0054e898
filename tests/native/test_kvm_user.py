"""The user-mode engine on KVM without runtime or interpreter: hand-written x86-64 code in its own space."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "accel" / "native"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SKIPPED = 77


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if os.uname().machine != "x86_64":
        pytest.skip(f"the guest code is x86-64 and this host is {os.uname().machine}")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc) to build the native tests with")
    out = tmp_path_factory.mktemp("kvm") / "kvm_user_test"
    sources = [HERE / "kvm_user_test.c", *sorted(CORE.glob("kvm_user*.c"))]
    command = [compiler, *FLAGS, "-I", CORE, "-I", HERE, *sources, "-pthread", "-o", out]
    if subprocess.run([*command, *SANITIZE], capture_output=True).returncode != 0:
        subprocess.run(command, check=True, timeout=120)
    return out


def test_guest_code_runs_stops_faults_and_is_kicked_as_the_engine_promises(program):
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=300)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr[-4000:]
