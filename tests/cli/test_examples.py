"""The examples do what they say; their types are checked with emu's own, by scripts/test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(name: str, *words: str) -> str:
    command = [sys.executable, ROOT / "examples" / name, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run_program.py", "aarch64 3610a686\n"),
        ("hook_syscall.py", "reads at most 4096 bytes\n" * 2 + "b'pdp11 3610a686\\n'\n"),
        ("hook_address.py", "hello, World\nb'aarch64 12345678\\n'\n"),
    ],
)
def test_an_example_prints_what_it_says(name: str, said: str) -> None:
    assert run(name) == said


def test_engines_are_compared_and_the_change_is_found() -> None:
    said = run("compare_engines.py")
    own, same, rest = said.split("\n", 2)
    assert own == "aarch64 3610a686", "the program's own words, once"
    assert re.fullmatch(
        r"translator and unicorn are the same for \d+ instructions: it has ended with status 0", same
    )
    assert re.match(r"tcg and tcg differ at instruction \d+, at 0x400800\w\w:\n", rest)
    assert re.search(r"^ +x1 +\w+ +79 +3f$", rest, re.MULTILINE), rest


def test_the_fuzzer_finds_the_parser_s_mistake_and_makes_it_small() -> None:
    """The name's 16 bytes, the frame pointer's 8, and one of the return address."""
    said = run("fuzz_parser.py", "60")
    assert re.match(r"found: a record of type 1 with 25 bytes: the parser does not come back", said), said
    assert re.search(r"^\d+ executions, \d+ per second$", said, re.MULTILINE)
