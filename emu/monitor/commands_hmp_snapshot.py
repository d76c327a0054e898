"""HMP: migration and snapshots."""

from __future__ import annotations

import time
from typing import Any

from emu.monitor.hmp import Hmp, hmp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.snapshot.store import Store


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


@hmp("dump-guest-memory")
def dump_guest_memory(monitor: Hmp, detach: bool = False, file: str = "") -> Any:
    """Writes memory, by physical addresses, and registers into an ELF core file; -d: in the background."""
    arguments = {"paging": False, "protocol": f"file:{file}", "detach": detach}
    return monitor.client.execute("dump-guest-memory", arguments)


@hmp("info dump")
def info_dump(monitor: Hmp) -> str:
    """Shows how a dump goes."""
    found = monitor.client.execute("query-dump", {})
    lines = [f"Status: {found['status']}"]
    if found["total"]:
        lines.append(f"Finished: {100 * found['completed'] / found['total']:.2f} %")
    return "\n".join(lines) + "\n"


def store(monitor: Hmp) -> Store:
    """The machine's snapshots."""
    from emu.snapshot.store import Store

    return Store(monitor.run, monitor.client.control.name)


@hmp("savevm")
def savevm(monitor: Hmp, name: str) -> None:
    """Keeps the machine and its disks under a name."""
    store(monitor).save(name)


@hmp("loadvm")
def loadvm(monitor: Hmp, name: str) -> None:
    """Makes the machine and its disks what they were when savevm kept them."""
    store(monitor).load(name)


@hmp("delvm")
def delvm(monitor: Hmp, name: str) -> None:
    """Forgets a snapshot."""
    store(monitor).delete(name)


@hmp("info snapshots")
def info_snapshots(monitor: Hmp) -> str:
    """The machine's snapshots."""
    found = store(monitor).names()
    if not found:
        return "There is no snapshot available.\n"
    lines = [f"{'TAG':24} {'VM SIZE':>10} DATE"]
    for name, size, when in found:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
        lines.append(f"{name:24} {size / (1 << 20):6.1f} MiB {stamp}")
    return "\n".join(lines) + "\n"
