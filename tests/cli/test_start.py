"""A start loads what it runs and no more."""

import subprocess
import sys

# Costs milliseconds each, and no program's start needs them.
HEAVY = {
    "argparse", "asyncio", "capstone", "dataclasses", "inspect", "json", "pkg_resources", "platform",
    "re", "subprocess", "typing", "unicorn", "unittest", "urllib", "importlib.metadata",
}  # fmt: skip


def loaded_by(script: str, *words: str) -> set[str]:
    """The modules in memory after `script`, beyond those of a bare interpreter."""
    report = "\nimport sys; print(*sorted(sys.modules), sep='\\n')"

    def names(text: str) -> set[str]:
        run = subprocess.run(
            [sys.executable, "-c", text + report, *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return set(run.stdout.split())

    return names(script) - names("")


def test_version_loads_nothing_but_the_command_line() -> None:
    script = "from emu.cli import main; assert main(['--version']) == 0"
    assert loaded_by(script) - {"0.1.0"} == {"emu", "emu.cli"}


def test_importing_emu_loads_no_machine() -> None:
    assert loaded_by("import emu") == {"emu"}


def test_the_program_path_loads_nothing_heavy() -> None:
    """As far as the choice of what runs; the engine's own imports are listed by the next test."""
    script = "from emu.cli import main; assert main(['-L', '/', '-E', 'A=b', './no/such/program']) == 127"
    assert loaded_by(script) & HEAVY == set()


def test_the_choice_of_an_accelerator_loads_nothing_heavy() -> None:
    script = "from accel.choice import choose; choose('auto', 'x86_64', 'machine')"
    assert loaded_by(script) & HEAVY == set()
