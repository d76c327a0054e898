"""emu: run programs and machines of other architectures, from the shell and from Python.

    from emu import Machine

    with Machine("virt", firmware="u-boot.bin", serial="stdio") as machine:
        print(machine.run())

The names below are imported when they are first used: a command's start does not pay for what it leaves out.
"""

__version__ = "0.1.0"

_HOME = {
    "Board": "emu.board",
    "Bus": "emu.bus",
    "Device": "emu.device",
    "Irq": "emu.device",
    "Machine": "emu.machine",
    "Part": "emu.board",
    "Process": "emu.linux.process",
    "Reg": "emu.device",
    "Result": "emu.machine",
    "run": "emu.linux.completed",
}
__all__ = ["Board", "Bus", "Device", "Irq", "Machine", "Part", "Process", "Reg", "Result", "run"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from emu.board import Board, Part
    from emu.bus import Bus
    from emu.device import Device, Irq, Reg
    from emu.linux.completed import run
    from emu.linux.process import Process
    from emu.machine import Machine, Result


def __getattr__(name: str) -> "Any":
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
