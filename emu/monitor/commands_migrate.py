"""QMP: what can be said of migration."""

from __future__ import annotations

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


class MigrationInfo(TypedDict):
    status: NotRequired[MigrationStatus]


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
    """How a migration goes; empty, where there was none."""
    return {}


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
