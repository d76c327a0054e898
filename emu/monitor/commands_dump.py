"""QMP: the guest's memory and CPUs in an ELF core file (emu/snapshot/core_dump.py)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal, TypedDict

from emu.monitor.command import CommandError, Later, Size, command
from emu.monitor.events import DumpResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client
    from emu.snapshot.core_dump import Dump

DumpFormat = Literal["elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"]
# Seconds between looks at whether it is done.
PAUSE = 0.02


class DumpCapability(TypedDict):
    formats: list[DumpFormat]


@command("dump-guest-memory")
def dump_guest_memory(
    client: Client,
    paging: bool,
    protocol: str,
    detach: bool = False,
    begin: Size | None = None,
    length: Size | None = None,
    format: DumpFormat = "elf",
) -> Later[None] | None:
    """Writes memory, by physical addresses, and registers into file:PATH or fd:NAME; the guest stands still
    meanwhile.  detach: answers at once, and DUMP_COMPLETED tells the end."""
    from emu.snapshot.commands import dump

    if paging:
        raise CommandError("paging is not supported: the file has physical addresses; say false")
    if format != "elf":
        raise CommandError(f"format {format} is not supported; use elf")
    if (begin is None) != (length is None):
        raise CommandError("begin and length are given both, or neither")
    made = dump(client.run, protocol, client.descriptors, begin or 0, length)
    return None if detach else Later(_until_done(made))


def _until_done(dump: Dump) -> Generator[float, None, None]:
    while dump.busy:
        yield PAUSE
        dump.poll()
    if dump.error:
        raise CommandError(dump.error)


@command("query-dump")
def query_dump(client: Client) -> DumpResult:
    """How a dump goes, or the last one went."""
    dump = client.run.dump
    if dump is None:
        return {"status": "none", "completed": 0, "total": 0}
    return {"status": dump.status, "completed": dump.completed, "total": dump.total}


@command("query-dump-guest-memory-capability")
def query_dump_guest_memory_capability(client: Client) -> DumpCapability:
    """The formats that there are."""
    return {"formats": ["elf"]}
