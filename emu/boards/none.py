"""none: no machine at all, for who asks a process what it could be.

A monitor answers there; there is nothing to run.
"""

from __future__ import annotations

from emu.board import Board

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine


class NoBoard(Board):
    """No CPU and no memory."""

    max_cpus = min_cpus = 0
    default_ram = ram_limit = 0

    def memory(self, machine: Machine) -> None:
        pass


class NoAarch64(NoBoard):
    """For those who ask about aarch64."""

    arch = "aarch64"


class NoX86(NoBoard):
    """For those who ask about x86-64."""

    arch = "x86_64"
