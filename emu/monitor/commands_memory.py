"""QMP: the guest's memory and its balloon."""

from __future__ import annotations

import os
from typing import Any, NotRequired, TypedDict

from emu.monitor import balloons
from emu.monitor.command import CommandError, Later, Size, command
from emu.monitor.guest_memory import physical, virtual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from emu.monitor.client import Client


class BalloonInfo(TypedDict):
    actual: int


SizeSummary = TypedDict("SizeSummary", {"base-memory": int, "plugged-memory": NotRequired[int]})
# What is read at a time.
PIECE = 1 << 20


@command("balloon")
def balloon(client: Client, value: int) -> None:
    """Asks the guest to leave so many bytes in use."""
    balloons.ask(client.machine, value)


@command("query-balloon")
def query_balloon(client: Client) -> BalloonInfo:
    """Bytes that the guest has now."""
    return {"actual": balloons.actual(client.machine)}


@command("query-memory-size-summary")
def query_memory_size_summary(client: Client) -> SizeSummary:
    """Bytes of RAM that the machine was started with, and what was plugged in since: nothing."""
    return {"base-memory": client.machine.ram, "plugged-memory": 0}


@command("query-memory-devices")
def query_memory_devices(client: Client) -> list[dict[str, Any]]:
    """Memory that was plugged in: none."""
    return []


@command("memsave")
def memsave(client: Client, val: Size, size: Size, filename: str, cpu_index: int = 0) -> Later[None]:
    """Writes memory at a virtual address of a CPU into a file."""
    cpus = client.machine.cpus
    if not 0 <= cpu_index < len(cpus):
        raise CommandError("Parameter 'cpu-index' expects a CPU number")

    def read(at: int, length: int) -> bytes:
        with client.run.held():
            return virtual(client.machine, cpus[cpu_index].vcpu, at, length)

    return Later(_save(filename, val, size, read))


@command("pmemsave")
def pmemsave(client: Client, val: Size, size: Size, filename: str) -> Later[None]:
    """Writes memory at a physical address into a file."""
    return Later(_save(filename, val, size, lambda at, length: physical(client.machine, at, length)))


def _save(
    filename: str, start: int, size: int, read: Callable[[int, int], bytes]
) -> Generator[float, None, None]:
    """Piece by piece, the guest going on between them; nothing is written if the first cannot be read."""
    done = 0
    piece = read(start, min(size, PIECE)) if size else b""
    # A pipe that nobody reads must not hold us.
    with open(filename, "wb", buffering=0, opener=_not_waiting) as file:
        while done < size:
            if done:
                yield 0
                piece = read(start + done, min(size - done, PIECE))
            if file.write(piece) != len(piece):
                raise CommandError(f"{filename}: it takes no more; name a file on a disk with room")
            done += len(piece)


def _not_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
