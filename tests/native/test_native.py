"""The C core without an interpreter: its own tests under AddressSanitizer, UBSan and ThreadSanitizer.

EMU_FUZZ_CASES in the environment sets how many maps fuzz_map.c tries.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "accel" / "native"
SOURCES = [CORE / name for name in ("map.c", "irq.c", "host.c")]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def build(tmp_path_factory, sanitized):
    """build(program, sanitizers) -> path; skips where the compiler or its sanitizer is missing."""
    folder = tmp_path_factory.mktemp("native")

    def build(program: str, sanitize: str) -> Path:
        out = folder / f"{program}-{sanitize}"
        command = [*sanitized(sanitize), *FLAGS, "-I", str(CORE), "-I", str(HERE)]
        command += [str(HERE / f"{program}.c"), *map(str, SOURCES), "-pthread", "-o", str(out)]
        subprocess.run(command, check=True, timeout=120)
        return out

    return build


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("program", ["test_map", "test_irq", "test_host", "test_threads"])
def test_the_core_is_clean_under_asan_and_ubsan(build, program):
    run(build(program, "address,undefined"))


def test_readers_and_a_moving_map_do_not_race_under_tsan(build):
    run(build("test_threads", "thread"))


def test_random_maps_answer_as_a_model_that_owns_every_byte(build):
    run(build("fuzz_map", "address,undefined"), os.environ.get("EMU_FUZZ_CASES", "20000"))
