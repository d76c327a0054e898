"""Debian's own programs for arm64 and armhf, in a sysroot where they need one."""

from __future__ import annotations

import hashlib
import re
import subprocess

import pytest

from tests.linux.conftest import emulate


def package(name: str, architecture: str, *, closure: bool = False) -> str:
    from accel.errors import Unavailable
    from emu.samples.debian import unpacked

    try:
        return str(unpacked(name, architecture, closure=closure))
    except Unavailable as error:
        pytest.skip(str(error))


MACHINES = {"arm64": "aarch64", "armhf": "armv7l"}
SUM = hashlib.sha256("".join(f"{i}\n" for i in range(1, 100001)).encode()).hexdigest()
APPLETS = {
    "uname -m; seq 1 100000 | sha256sum": f"MACHINE\n{SUM}  -\n",
    "seq 1 1000 | sort -rn | head -n 2; echo $?": "1000\n999\n0\n",
    "echo a b c | tr a-z A-Z | sed s/B/-/ | cut -d' ' -f2": "-\n",
    "seq 1 100 | awk '{ s += $1 } END { print s, s / 8 }'": "5050 631.25\n",
    "(sleep 0.1; echo late) & echo early; wait": "early\nlate\n",
    "trap 'echo caught' USR1; kill -USR1 $$; echo after": "caught\nafter\n",
    "false || echo or; true && echo and; (exit 3); echo $?": "or\nand\n3\n",
    "seq 1 6 | xargs -n 3 echo": "1 2 3\n4 5 6\n",
    "head -c 100000 /dev/zero | gzip -c | gunzip -c | wc -c": "100000\n",
    "x=$(for i in 1 2 3; do echo $i; done | wc -l); echo $((x * 14))": "42\n",
    "cat <<END | tail -n 1\none\ntwo\nEND": "two\n",
    "env -i A=1 env": "A=1\n",
    "yes | head -n 1000 | wc -l": "1000\n",
}


@pytest.mark.parametrize("architecture", MACHINES)
@pytest.mark.parametrize("script", APPLETS)
def test_busybox_answers_as_everywhere(architecture, script):
    busybox = package("busybox-static", architecture) + "/bin/busybox"
    done = emulate(busybox, "sh", "-c", script)
    assert done.stdout == APPLETS[script].replace("MACHINE", MACHINES[architecture])
    assert (done.returncode, done.stderr) == (0, "")


def test_busybox_dies_by_the_signal_it_sends_itself():
    busybox = package("busybox-static", "arm64") + "/bin/busybox"
    assert emulate(busybox, "sh", "-c", "kill -TERM $$").returncode == -15


def test_python_of_debian_runs_in_its_sysroot():
    root = package("python3-minimal", "arm64", closure=True)
    done = emulate("-L", root, "/usr/bin/python3", "-c", "print(sum(range(10**6)))")
    assert (done.stdout, done.stderr, done.returncode) == ("499999500000\n", "", 0)


def test_python_of_debian_starts_children_of_its_kind():
    root = package("python3-minimal", "arm64", closure=True)
    script = (
        "import os, sys\n"
        "r, w = os.pipe()\n"
        "words = [sys.executable, '-c', 'import os; print(os.uname().machine)']\n"
        "actions = [(os.POSIX_SPAWN_DUP2, w, 1)]\n"
        "pid = os.posix_spawn(sys.executable, words, os.environ, file_actions=actions)\n"
        "os.close(w)\n"
        "status = os.waitpid(pid, 0)[1]\n"
        "print(os.read(r, 100).decode().strip(), status, sys.executable)\n"
    )
    done = emulate("-L", root, "/usr/bin/python3", "-c", script)
    assert (done.stdout, done.stderr) == ("aarch64 0 /usr/bin/python3\n", "")


def ends(text: str) -> dict[str, str]:
    """What became of each test, from unittest's verbose output."""
    end = r"^(test\w+ \(\S+\)).*?\.\.\. (ok|skipped|FAIL|ERROR)"
    return dict(re.findall(end, text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("module", ["test_fcntl", "test_mmap", "test_pty"])
def test_cpythons_own_tests_end_as_they_do_natively(module, tmp_path):
    """benchmarks/compare_cpython.py runs the whole suite."""
    name = "libpython3.11-testsuite"
    words = ("-m", "unittest", "-v", f"test.{module}")
    native = package(name, "amd64", closure=True) + "/usr/bin/python3.11"
    done = emulate("-L", package(name, "arm64", closure=True), "/usr/bin/python3.11", *words, cwd=tmp_path)
    theirs = subprocess.run([native, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ends(done.stderr) == ends(theirs.stderr)
    assert ends(theirs.stderr)
