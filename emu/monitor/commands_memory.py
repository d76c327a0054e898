"""QMP: the guest's memory and its balloon."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from emu.monitor import balloons
from emu.monitor.command import CommandError, Size, command
from emu.monitor.guest_memory import physical, virtual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
def memsave(client: Client, val: Size, size: Size, filename: str, cpu_index: int = 0) -> None:
    """Writes memory at a virtual address of a CPU into a file."""
    cpus = client.machine.cpus
    if not 0 <= cpu_index < len(cpus):
        raise CommandError("Parameter 'cpu-index' expects a CPU number")
    with client.run.held():
        _save(
            filename, val, size, lambda at, length: virtual(client.machine, cpus[cpu_index].vcpu, at, length)
        )


@command("pmemsave")
def pmemsave(client: Client, val: Size, size: Size, filename: str) -> None:
    """Writes memory at a physical address into a file."""
    _save(filename, val, size, lambda at, length: physical(client.machine, at, length))


def _save(filename: str, start: int, size: int, read: Callable[[int, int], bytes]) -> None:
    """Nothing is written if the first piece cannot be read."""
    done = 0
    first = read(start, min(size, PIECE)) if size else b""
    with Path(filename).open("wb") as file:
        while done < size:
            file.write(first if done == 0 else read(start + done, min(size - done, PIECE)))
            done += PIECE
