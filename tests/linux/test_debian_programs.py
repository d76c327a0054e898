"""Debian's arm64 userland, and busybox's applets for arm64 and armhf: as the same programs natively.

The scripts are in tests/guest/debian; what they must print was printed by the same packages for amd64.
benchmarks/compare_programs.py runs those that take longer, and every one under -L, --root, qemu and natively.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tests.guest.debian.programs import BUSYBOX, CASES, Way
from tests.linux.conftest import emulate
from tests.linux.test_debian import package

CASE = {case.name: case for case in CASES}
RUNS = {
    "-L": [
        "shell", "core", "grep", "gawk", "subprocesses", "database", "perl", "applets",
    ],
    "--root": ["shell", "find", "sed", "threads", "loops", "tls", "sqlite", "git", "applets-armhf"],
}  # fmt: skip


@pytest.mark.parametrize(("option", "name"), [(option, name) for option in RUNS for name in RUNS[option]])
def test_programs_print_and_return_what_they_do_natively(option, name):
    from accel.errors import Unavailable

    case = CASE[name]
    try:
        root = case.sysroot()
    except Unavailable as error:
        pytest.skip(str(error))
    assert Way(option).run(case, root, timeout=300).text == case.expected.read_bytes().decode()


def test_other_processes_see_the_arguments_of_the_guest_not_ours():
    set_mm, map_size, size = 35, 15, ctypes.c_uint()  # prctl(2)
    if ctypes.CDLL(None).prctl(set_mm, map_size, ctypes.byref(size), 0, 0) != 0:
        pytest.skip("this kernel has no PR_SET_MM_MAP (CONFIG_CHECKPOINT_RESTORE)")
    busybox = package(BUSYBOX[-1], "arm64") + "/bin/busybox"
    script = "tr '\\0' '|' </proc/$$/cmdline; cat /proc/$$/comm; true"
    done = emulate(busybox, "sh", "-c", script, "zero", "one")
    assert done.stdout == f"{busybox}|sh|-c|{script}|zero|one|busybox\n"


def test_a_confined_program_has_shared_memory_and_finds_itself_among_the_processes(tmp_path):
    busybox = package(BUSYBOX[-1], "arm64")
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "bin" / "busybox").write_bytes((Path(busybox) / "bin" / "busybox").read_bytes())
    (tmp_path / "bin" / "busybox").chmod(0o755)
    script = 'echo shared >/dev/shm/x; cat /tmp/x; ps | grep -c "^ *$$ "; exec ls /proc/self/stat'
    done = emulate("--root", tmp_path, "/bin/busybox", "sh", "-c", script)
    assert done.stdout == "shared\n1\n/proc/self/stat\n"
