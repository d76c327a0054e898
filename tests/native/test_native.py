"""The C core without an interpreter: its own tests under AddressSanitizer, UBSan and ThreadSanitizer.

EMU_FUZZ_CASES in the environment sets how many maps fuzz_map.c tries, and instructions fuzz_cross.c.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "accel" / "native"
SOURCES = [CORE / name for name in ("map.c", "irq.c", "host.c")]
CROSSING = [CORE / name for name in ("cross_host.c", "cross_system.c")]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def build(tmp_path_factory, sanitized):
    """build(program, sanitizers) -> path; skips where the compiler or its sanitizer is missing."""
    folder = tmp_path_factory.mktemp("native")

    def build(program: str, sanitize: str, sources: list[Path] = SOURCES) -> Path:
        out = folder / f"{program}-{sanitize}"
        command = [*sanitized(sanitize), *FLAGS, "-I", str(CORE), "-I", str(HERE)]
        command += [str(HERE / f"{program}.c"), *map(str, sources), "-pthread", "-o", str(out)]
        subprocess.run(command, check=True, timeout=120)
        return out

    return build


def run(*command: object, **more: str) -> None:
    words = [str(word) for word in command]
    env = {**os.environ, **more}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("program", ["test_map", "test_irq", "test_host", "test_threads"])
def test_the_core_is_clean_under_asan_and_ubsan(build, program):
    run(build(program, "address,undefined"))


def test_readers_and_a_moving_map_do_not_race_under_tsan(build):
    run(build("test_threads", "thread"))


def test_random_maps_answer_as_a_model_that_owns_every_byte(build):
    run(build("fuzz_map", "address,undefined"), os.environ.get("EMU_FUZZ_CASES", "20000"))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the host's CPU does x86-64 instructions alone")
def test_no_instruction_done_by_the_host_cpu_reaches_further_than_its_row_says(build):
    program = build("test_cross_sizes", "address,undefined", [])
    run(program, ASAN_OPTIONS="handle_segv=0")  # the code has a handler of its own


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the host's CPU does x86-64 instructions alone")
def test_any_instruction_and_any_page_tables_leave_the_host_of_a_crossing_alone(build):
    run(
        build("fuzz_cross", "address,undefined", [*CROSSING, *SOURCES]),
        os.environ.get("EMU_FUZZ_CASES", "200000"),
    )
