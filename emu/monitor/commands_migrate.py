"""QMP: a machine goes to another process, or to a file, and comes from there (emu/snapshot)."""

from __future__ import annotations

import time
from typing import Any, Literal, NotRequired, TypedDict

from emu.monitor.command import CommandError, Size, command
from emu.monitor.events import MigrationStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

Capability = Literal[
    "xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "compress", "events", "postcopy-ram", "x-colo",
    "release-ram", "block", "return-path", "pause-before-switchover", "multifd", "dirty-bitmaps",
    "postcopy-blocktime", "late-block-activate", "x-ignore-shared", "validate-uuid", "background-snapshot",
    "zero-copy-send", "postcopy-preempt",
]  # fmt: skip


class CapabilityStatus(TypedDict):
    capability: Capability
    state: bool


MemoryInfo = TypedDict(
    "MemoryInfo",
    {"transferred": Size, "remaining": Size, "total": Size, "normal-bytes": Size, "page-size": Size},
)
MigrationInfo = TypedDict(
    "MigrationInfo",
    {
        "status": NotRequired[MigrationStatus],
        "total-time": NotRequired[Size],
        "setup-time": NotRequired[Size],
        "downtime": NotRequired[Size],
        "error-desc": NotRequired[str],
        "ram": NotRequired[MemoryInfo],
    },
)

MigrationParameters = TypedDict(
    "MigrationParameters", {"max-bandwidth": NotRequired[Size], "downtime-limit": NotRequired[Size]}
)


@command("query-migrate-capabilities")
def query_migrate_capabilities(client: Client) -> list[CapabilityStatus]:
    """What is understood of migration: events, which are always sent."""
    return [{"capability": "events", "state": client.control.migration_events}]


@command("migrate-set-capabilities")
def migrate_set_capabilities(client: Client, capabilities: list[CapabilityStatus]) -> None:
    """Switches what is understood; what is not can only be off."""
    for each in capabilities:
        if each["state"] and each["capability"] != "events":
            raise CommandError(f"{each['capability']} is not supported; leave it off")
    for each in capabilities:
        if each["capability"] == "events":
            client.control.migration_events = each["state"]


@command("query-migrate")
def query_migrate(client: Client) -> MigrationInfo:
    """How a migration goes, or the last one went; empty, where there was none."""
    migration = client.run.migration
    if migration is None:
        return {}
    end = time.monotonic() if migration.busy else migration.ended
    found: dict[str, Any] = {
        "status": migration.status,
        "total-time": round((end - migration.started) * 1000),
        "setup-time": 0,
    }
    if migration.error:
        found["error-desc"] = migration.error
    if not migration.incoming:
        # The guest stands still all the time.
        found["downtime"] = round((end - migration.held) * 1000) if migration.held else 0
        found["ram"] = {
            "transferred": migration.transferred,
            "remaining": max(0, migration.expected - migration.done) if migration.busy else 0,
            "total": client.machine.ram,
            "normal-bytes": migration.done,
            "page-size": 4096,
        }
    info: Any = found
    return info  # type: ignore[no-any-return]


@command("migrate")
def migrate(
    client: Client,
    uri: str,
    blk: bool = False,
    inc: bool = False,
    detach: bool = True,
    resume: bool = False,
) -> None:
    """Sends the machine to fd:NAME, unix:PATH, tcp:HOST:PORT, file:PATH or exec:COMMAND; it stands still
    from then on.  Disks stay where they are."""
    from emu.snapshot.commands import send

    for name, asked in (("blk", blk), ("inc", inc), ("resume", resume)):
        if asked:
            raise CommandError(f"'{name}' is not supported; leave it out")
    send(client.run, uri, client.descriptors)


@command("migrate-incoming")
def migrate_incoming(client: Client, uri: str) -> None:
    """Has a machine that was started with -incoming defer come from there."""
    from emu.snapshot.commands import receive

    receive(client.run, uri, client.descriptors)


@command("migrate_cancel")
def migrate_cancel(client: Client) -> None:
    """Gives up a migration that is under way; the machine goes on here."""
    if client.run.migration is not None:
        client.run.migration.cancel()


@command("query-migrate-parameters")
def query_migrate_parameters(client: Client) -> MigrationParameters:
    """The limits that were set."""
    parameters: Any = dict(client.control.migration_parameters)
    return parameters  # type: ignore[no-any-return]


@command("migrate-set-parameters")
def migrate_set_parameters(
    client: Client, max_bandwidth: Size | None = None, downtime_limit: Size | None = None
) -> None:
    """Sets limits: bytes a second, and how many milliseconds the guest may stand still."""
    given = {"max-bandwidth": max_bandwidth, "downtime-limit": downtime_limit}
    client.control.migration_parameters |= {name: value for name, value in given.items() if value is not None}
