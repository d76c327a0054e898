"""One body, every engine.

`accel`: an accelerator, kvm and tcg in turn; a test that takes it runs under each, or is skipped with the
reason why this host cannot.  `bare`: a factory of bare machines (guest/bare.py), for every accelerator and
ISA that go together.  `x86`: runs sequences of x86-64 instructions under kvm, tcg and on the host's own CPU.
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator

import pytest

from emu.folders import configuration
from tests.guest.bare import Bare

# A shell starts what it runs in the background with these ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

# What the user of this host has set is no test's.
if configuration():
    os.environ["EMU_CONFIG"] = "/dev/null"

ENGINES = {
    "kvm": ("x86_64",),
    "tcg": ("x86_64", "aarch64", "arm", "riscv64"),
}


class Engine:
    """An accelerator by name, and what it can run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.isas = ENGINES[name]

    def open(self, arch, memory, ports=None, **options):
        """An accelerator for a guest; the test closes it."""
        from accel.api import open_accelerator

        return open_accelerator(self.name, arch, memory, ports, **options)

    def __repr__(self) -> str:
        return self.name


def obstacle(name: str) -> str:
    """Why an engine cannot run on this host; "" if it can."""
    if name == "kvm":
        if platform.machine() != "x86_64":
            return f"kvm runs x86-64 guests on x86-64 hosts, and this one is {platform.machine()}"
        from accel.errors import Unavailable
        from accel.kvm.device import open_device

        try:
            os.close(open_device())
        except Unavailable as error:
            return str(error)
    if name == "native" and platform.machine() != "x86_64":
        return f"x86-64 instructions need an x86-64 host, and this one is {platform.machine()}"
    return ""


def usable(name: str) -> None:
    """Skips the test, with the precise reason, where an engine cannot run."""
    reason = obstacle(name)
    if reason:
        pytest.skip(f"{name}: {reason}")


@pytest.fixture(params=list(ENGINES))
def accel(request: pytest.FixtureRequest) -> Engine:
    """kvm, then tcg."""
    usable(request.param)
    return Engine(request.param)


class Machines:
    """Makes bare machines of one accelerator and ISA, and closes them when the test ends."""

    def __init__(self, engine: Engine, isa: str) -> None:
        self.engine = engine
        self.isa = isa
        self._made: list[Bare] = []

    def __call__(self, **options: object) -> Bare:
        machine = Bare(self.engine, self.isa, **options)
        self._made.append(machine)
        return machine

    def close(self) -> None:
        for machine in self._made:
            machine.close()


PAIRS = [(name, isa) for name, isas in ENGINES.items() for isa in isas]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`bare` takes every pair of accelerator and ISA, or those of the test's mark `isas`."""
    if "bare" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("isas")
        pairs = [pair for pair in PAIRS if mark is None or pair[1] in mark.args]
        metafunc.parametrize("bare", pairs, ids=["-".join(pair) for pair in pairs], indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes longer than 20 s on a quiet machine")
    config.addinivalue_line("markers", "isas(*names): the ISAs that a test with the fixture `bare` is for")


@pytest.fixture
def bare(request: pytest.FixtureRequest) -> Iterator[Machines]:
    """bare() makes a machine with RAM and a device; bare.isa and bare.engine say which."""
    name, isa = request.param
    usable(name)
    machines = Machines(Engine(name), isa)
    yield machines
    machines.close()


@pytest.fixture(params=[*ENGINES, "native"])
def x86(request: pytest.FixtureRequest):
    """run(cases) -> outcomes, under kvm, under tcg, and natively on the host's CPU."""
    from tests.guest.x86 import Guest, Host

    usable(request.param)
    return Host() if request.param == "native" else Guest(Engine(request.param))


@pytest.fixture
def host_cpu():
    """The host's CPU as the oracle of x86-64 instructions."""
    from tests.guest.x86 import Host

    usable("native")
    return Host()
