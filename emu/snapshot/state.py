"""What a machine is made of besides its memory, as plain values: taken from one that stands still, given to
another that was built alike.

It is the same under every accelerator: interrupt controllers that the kernel holds are in it as the board's
own.
"""

from __future__ import annotations

import os
import time
from typing import Any

from accel.errors import EmuError
from accel.memory import IO
from emu.snapshot.errors import SnapshotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import Region
    from emu.machine import Machine

# What must be the same in the machine that takes a snapshot, and how a person is told.
ALIKE = {
    "board": "board",
    "arch": "architecture",
    "engine": "board's options",
    "ram": "bytes of RAM",
    "cpus": "number of CPUs",
    "regions": "memory map",
    "devices": "devices",
}


class State:
    """head: what machine it is of, and when; the others as their parts gave them."""

    __slots__ = ("board", "clock", "cpus", "devices", "head")

    def __init__(
        self, head: dict[str, Any], clock: int, cpus: list[Any], devices: dict[str, Any], board: Any
    ) -> None:
        self.head = head
        self.clock = clock
        self.cpus = cpus
        self.devices = devices
        self.board = board


def regions(machine: Machine) -> list[Region]:
    """The memory of a machine, in the order that chunks number it by."""
    return sorted((one for one in machine.memory.regions if one.kind != IO), key=lambda one: one.base)


def identity(machine: Machine) -> dict[str, Any]:
    """What ALIKE compares."""
    return {
        "board": machine.board.name or type(machine.board).__name__,
        "arch": machine.board.arch,
        "engine": dict(machine.board.engine),
        "ram": machine.ram,
        "cpus": len(machine.cpus),
        "regions": [[region.name, region.size] for region in regions(machine)],
        "devices": {
            name: kind for each in machine.devices() for name, kind in _kinds(each.name, each).items()
        },
    }


def _kinds(name: str, device: Any) -> dict[str, str]:
    """By name: a device, and what is plugged into it, by its place; of each its type and version."""
    carried = getattr(device, "device", None)
    kind = type(device).__name__ + ("" if carried is None else f" with {_carried(carried)}")
    found = {name: f"{kind}, version {getattr(device, 'version', 1)}"}
    functions = getattr(device, "functions", None) or {}
    for (slot, number), one in sorted(functions.items()):
        found |= _kinds(f"{name} {slot:x}.{number:x}", one)
    return found


def _carried(device: Any) -> str:
    return str(getattr(device, "kind", type(device).__name__))


def take(machine: Machine) -> State:
    """The state of a machine that stands still."""
    from emu import __version__

    head = identity(machine) | {
        "emu": __version__,
        "accel": machine.accel_name,
        "cpu": machine.cpu,
        "saved": int(time.time()),
        "id": os.urandom(16).hex(),
    }
    cpus = [cpu.vcpu.save() for cpu in machine.cpus]
    devices = {device.name: device.save() for device in machine.devices()}
    board = machine.board.save(machine, cpus, devices)
    return State(head, machine.clock.now(), cpus, devices, board)


def check_alike(machine: Machine, state: State) -> None:
    """Raises SnapshotError where the state is of a machine that was built otherwise."""
    own = identity(machine)
    for name, text in ALIKE.items():
        theirs = state.head.get(name)
        if theirs != own[name]:
            what = _difference(theirs, own[name])
            raise SnapshotError(
                f"the snapshot is of another machine: its {text}: {what}; build this one with the same"
                " options"
            )


def check(machine: Machine, state: State) -> None:
    """Raises SnapshotError where the state is of a machine that was built otherwise, or is damaged."""
    check_alike(machine, state)
    own = identity(machine)
    here = {device.name for device in machine.devices()}
    if len(state.cpus) != own["cpus"] or set(state.devices) != here:
        raise SnapshotError("parts of the machine are missing in the snapshot; it is damaged")
    now = take(machine)
    for name, saved in state.devices.items():
        _shaped(saved, now.devices[name], f"device {name}")
    for number, cpu in enumerate(state.cpus):
        if not isinstance(cpu, dict):
            raise SnapshotError(f"CPU {number} of the snapshot makes no sense; it is damaged")
        for name, value in cpu.items():
            known = now.cpus[number].get(name, value)
            if not isinstance(name, str) or type(value) is not type(known) or not _plain(value):
                raise SnapshotError(
                    f"CPU {number}, {name}: of another kind than here; the snapshot is damaged"
                )


def _difference(theirs: Any, own: Any) -> str:
    """The first place in which two values differ."""
    if isinstance(theirs, dict) and isinstance(own, dict):
        for name in {**theirs, **own}:
            if theirs.get(name) != own.get(name):
                return f"{name} is {_told(theirs.get(name))}, and here {_told(own.get(name))}"
    return f"{_told(theirs)}, and here {_told(own)}"


def _told(value: Any) -> str:
    text = "absent" if value is None else str(value[0] if isinstance(value, list) and value else value)
    return text if len(text) < 80 else text[:77] + "..."


def _plain(value: Any) -> bool:
    """Whether a register's value, or several by name or in rows, are numbers or words."""
    if isinstance(value, dict):
        return all(isinstance(each, int | str) for each in value.values())
    if isinstance(value, list):
        return all(isinstance(row, list) and all(isinstance(each, int) for each in row) for row in value)
    return isinstance(value, int | str)


def _shaped(saved: Any, now: Any, where: str) -> None:
    """Raises SnapshotError where a value is of another kind than what the same part says of itself."""
    if now is None or saved is None:
        return
    kinds = {int: int, bool: int, bytearray: bytes}
    if kinds.get(type(saved), type(saved)) is not kinds.get(type(now), type(now)):
        raise SnapshotError(
            f"{where}: {type(saved).__name__} in place of {type(now).__name__}; it is damaged"
        )
    if isinstance(now, dict):
        if set(saved) != set(now):
            odd = ", ".join(str(name) for name in set(saved) ^ set(now))
            raise SnapshotError(f"{where}: it has not the same parts here and in the snapshot: {odd}")
        for name, value in saved.items():
            _shaped(value, now[name], f"{where}, {name}")
    elif isinstance(now, list) and len(saved) == len(now):
        for ours, theirs in zip(now, saved, strict=True):
            _shaped(theirs, ours, where)


def put(machine: Machine, state: State) -> None:
    """Gives a machine that stands still a state that check() let pass; its memory has been loaded already.

    Raises SnapshotError; the machine is then neither as it was nor as it is to be.
    """
    cpus = [dict(cpu) for cpu in state.cpus]
    try:
        machine.clock.restore(state.clock)
        for device in machine.devices():
            device.load(state.devices[device.name])
        due = machine.board.load_state(machine, cpus, state.board)
        for cpu, saved in zip(machine.cpus, cpus, strict=True):
            cpu.vcpu.load(saved)
        left = due - time.monotonic_ns()
        if due and left > 0:
            time.sleep(left / 1e9)
    except EmuError as error:
        raise SnapshotError(str(error)) from None
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        raise SnapshotError(f"a value of the snapshot makes no sense ({error}); it is damaged") from None
