"""pytest: machines and programs of other architectures as fixtures.

    def test_the_kernel_boots(emu_machine):
        machine = emu_machine("virt", kernel="Image", append="console=ttyAMA0")
        machine.console.expect("login:", timeout=60)

    def test_the_program_says_hello(emu_process):
        assert emu_process("./hello-arm64").stdout == "hello\\n"

Of a test that fails the report has what its machines' consoles and its programs have said.  pytest finds this
plugin by itself where emu is installed, and nothing of emu is imported until a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from emu.board import Board
    from emu.machine import Machine

# Lines of a console that a report shows.
SHOWN = 50
OPTIONS = (
    ("accel", "SPEC", "auto", "accelerator of emu_machine's machines: auto, kvm, tcg, kvm:tcg"),
    ("engine", "NAME", "", "engine of emu_process' programs: translator or unicorn"),
    ("sysroot", "DIR", "", "where emu_process looks for the files of programs first, as emu -L"),
    ("timeout", "SECONDS", "60", "until console.expect and emu_process give up"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("emu")
    for name, kind, default, text in OPTIONS:
        group.addoption(
            f"--emu-{name}", metavar=kind, default=None, help=f"{text} (default: {default or 'none'})"
        )
        parser.addini(f"emu_{name}", text, default=default)


def _option(config: pytest.Config, name: str) -> str:
    given = config.getoption(f"--emu-{name}")
    return str(config.getini(f"emu_{name}") if given is None else given)


def _timeout(config: pytest.Config) -> float:
    given = _option(config, "timeout")
    try:
        return float(given)
    except ValueError:
        raise pytest.UsageError(f"--emu-timeout {given!r} is no number of seconds") from None


class Said:
    """What a test's machines and programs have said, for its report."""

    def __init__(self) -> None:
        self.machines: list[tuple[str, Machine]] = []
        self.programs: list[tuple[str, str]] = []

    def sections(self) -> list[tuple[str, str]]:
        found = []
        for number, (board, machine) in enumerate(self.machines):
            from emu.expect import Heard

            line = machine.serial_line(0)
            if isinstance(line, Heard):
                text = "\n".join(line.text.split("\n")[-SHOWN:])
                found.append((f"console of {board} (emu_machine {number})", text))
        return found + self.programs


KEY = pytest.StashKey[Said]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    said = item.stash.get(KEY, None)
    if said is not None:
        report = outcome.get_result()
        if report.failed:
            report.sections += said.sections()


class Machines:
    """The fixture emu_machine: makes machines, and closes them when the test ends."""

    def __init__(self, config: pytest.Config, said: Said) -> None:
        self._accel = _option(config, "accel")
        self._timeout = _timeout(config)
        self._said = said

    def __call__(self, board: str | Board = "virt", *, accel: str | None = None, **options: Any) -> Machine:
        """emu.Machine, with the accelerator that --emu-accel names if none is given."""
        from emu.expect import Heard
        from emu.machine import Machine

        machine = Machine(board, accel=accel or self._accel, **options)
        self._said.machines.append((board if isinstance(board, str) else type(board).__name__, machine))
        if isinstance(machine.serial_line(0), Heard):
            machine.console.timeout = self._timeout
        return machine

    def close(self) -> None:
        for _, machine in reversed(self._said.machines):
            machine.close()


class Programs:
    """The fixture emu_process: runs Linux programs of other architectures."""

    def __init__(self, config: pytest.Config, said: Said) -> None:
        self._engine = _option(config, "engine") or None
        self._sysroot = _option(config, "sysroot") or None
        self._timeout = _timeout(config)
        self._said = said

    def __call__(
        self, *args: object, input: str | None = None, timeout: float | None = None, **options: Any
    ) -> CompletedProcess[str]:
        """emu.run of a program and its arguments, with its output as text."""
        from emu.linux.completed import run

        words = [str(word) for word in args]
        if options.get("root") is None:
            options.setdefault("sysroot", self._sysroot)
        options.setdefault("engine", self._engine)
        done = run(
            words,
            input=input or "",
            capture_output=True,
            text=True,
            timeout=self._timeout if timeout is None else timeout,
            **options,
        )
        text = f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
        self._said.programs.append((f"{' '.join(words)} (emu_process)", text))
        return done


def _said(request: pytest.FixtureRequest) -> Said:
    return request.node.stash.setdefault(KEY, Said())  # type: ignore[no-any-return]


@pytest.fixture
def emu_machine(request: pytest.FixtureRequest) -> Iterator[Machines]:
    """emu_machine(board, kernel=..., ...) makes a machine, which is closed when the test ends."""
    machines = Machines(request.config, _said(request))
    yield machines
    machines.close()


@pytest.fixture
def emu_process(request: pytest.FixtureRequest) -> Programs:
    """emu_process(program, *arguments) runs a Linux program and returns a subprocess.CompletedProcess."""
    return Programs(request.config, _said(request))
