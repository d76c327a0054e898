"""HMP: migration and snapshots."""

from __future__ import annotations

from emu.monitor.hmp import Hmp, hmp


@hmp("migrate")
def migrate(monitor: Hmp, detach: bool = False, uri: str = "") -> None:
    """Sends the machine to fd:NAME, unix:PATH, tcp:HOST:PORT, file:PATH or exec:COMMAND (info migrate)."""
    monitor.client.execute("migrate", {"uri": uri})


@hmp("migrate_incoming")
def migrate_incoming(monitor: Hmp, uri: str) -> None:
    """Has a machine that was started with -incoming defer come from there."""
    monitor.client.execute("migrate-incoming", {"uri": uri})


@hmp("migrate_cancel")
def migrate_cancel(monitor: Hmp) -> None:
    """Gives up a migration that is under way."""
    monitor.client.execute("migrate_cancel", {})


@hmp("info migrate")
def info_migrate(monitor: Hmp) -> str:
    """Shows how a migration goes."""
    found = monitor.client.execute("query-migrate", {})
    if not found:
        return "no migration\n"
    lines = [f"Migration status: {found['status']}"]
    if "error-desc" in found:
        lines.append(found["error-desc"])
    lines.append(f"total time: {found['total-time']} ms")
    memory = found.get("ram")
    if memory is not None:
        lines += [
            f"transferred ram: {memory['transferred'] >> 10} kbytes",
            f"remaining ram: {memory['remaining'] >> 10} kbytes",
            f"total ram: {memory['total'] >> 10} kbytes",
        ]
    return "\n".join(lines) + "\n"
