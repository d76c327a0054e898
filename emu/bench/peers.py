"""Who takes part: emu's own engines, QEMU's programs, and why one of them cannot."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from accel.choice import host, kvm_never, kvm_obstacle
from accel.kvm.device import emulates_cpl0
from emu.bench.process import PATIENCE
from emu.bench.work import Failed, Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from accel.choice import Purpose
    from emu.bench.work import Ran

# In the order of the table: its name, and what it is.
ENGINES = {
    "native": "the host's CPU",
    "kvm": "emu, in a virtual machine",
    "translator": "emu, its own translator",
    "unicorn": "emu, Unicorn",
    "qemu-user": "QEMU's user mode",
    "qemu-kvm": "QEMU's machines under kvm",
    "qemu-tcg": "QEMU's machines by translation",
}
# What people call the ISAs.
ISAS = {"x86_64": "x86-64", "aarch64": "arm64"}
# Debian's packages.
_SYSTEM = {"aarch64": "qemu-system-arm", "x86_64": "qemu-system-x86"}


def emu() -> list[str]:
    """How emu is started: the command beside this interpreter, or the module."""
    beside = Path(sys.executable).with_name("emu")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "emu"]


def qemu_user(isa: str) -> tuple[str, str]:
    """The program, or why there is none."""
    for name in (f"qemu-{isa}", f"qemu-{isa}-static"):
        if path := shutil.which(name):
            return path, ""
    return "", f"qemu-{isa} is not installed: apt-get install qemu-user"


def qemu_system(isa: str) -> tuple[str, str]:
    """The program, or why there is none."""
    if path := shutil.which(f"qemu-system-{isa}"):
        return path, ""
    return "", f"qemu-system-{isa} is not installed: apt-get install {_SYSTEM[isa]}"


def no_kvm(isa: str, purpose: Purpose) -> str:
    """Why emu cannot use kvm for such a guest; "" if it can."""
    return kvm_never(isa, purpose) or kvm_obstacle()


def no_translator(isa: str) -> str:
    """Why emu's translator does not run such programs here; "" if it does."""
    if isa != "aarch64":
        return "it translates arm64 programs"
    return "" if host() == "x86_64" else f"it makes code for x86-64 hosts, and this one is {host()}"


def program_ways(
    run: Callable[[str, list[str]], Callable[[], Ran]],
    foreign: str = "aarch64",
    reasons: dict[str, str] | None = None,
) -> list[Way]:
    """The ways to run a Linux program: natively and under kvm this host's own, by translation a foreign one.

    run: makes a way's `run` of an ISA and the words that stand before the program; reasons: by ISA, why there
    is no program at all.
    """
    reasons = reasons or {}
    own, qemu = host(), qemu_user(foreign)
    # What somebody's file of settings says is no part of the comparison.
    ours = [*emu(), "--no-config", "--accel"]
    table: tuple[tuple[str, str, list[str], str], ...] = (
        ("native", own, [], ""),
        ("kvm", own, [*ours, "kvm"], no_kvm(own, "program")),
        ("translator", foreign, [*ours, "tcg", "--engine", "translator"], no_translator(foreign)),
        ("unicorn", foreign, [*ours, "tcg", "--engine", "unicorn"], ""),
        ("qemu-user", foreign, [qemu[0]], qemu[1]),
    )
    ways = []
    for engine, isa, words, reason in table:
        why = reasons.get(isa) or reason
        ways.append(Way(engine, isa, None if why else run(isa, words), why))
    return ways


# Seconds for QEMU's machines where KVM emulates the guest's kernel: there it may stand still for ever.
DOUBTFUL = 10.0


def qemu_kvm(command: list[str], run: Callable[[list[str], float], Ran]) -> Callable[[], Ran]:
    """A way's run of QEMU under kvm: with the host's CPU, or where QEMU cannot have that, with its plainest.

    run: of a command, and seconds after which it is given up.
    """
    models = ["host", "qemu64"]
    doubtful = emulates_cpl0()

    def attempt() -> Ran:
        while True:
            try:
                return run([*command, "-cpu", models[0]], DOUBTFUL if doubtful else PATIENCE)
            except Failed as error:
                if len(models) == 1:
                    why = "; this host's kvm emulates the guest's kernel mode" if doubtful else ""
                    raise Failed(f"with -cpu {models[0]}: {error}{why}") from None
                del models[0]

    return attempt
