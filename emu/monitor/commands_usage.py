"""QMP: what a machine takes of the host and moves, in one answer, for `emu top`; ours, not QEMU's."""

from __future__ import annotations

import os
import time
from typing import NotRequired, TypedDict

from emu.monitor.balloons import balloon_of
from emu.monitor.command import CommandError, command
from emu.run_state import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

# Seconds after which statistics are asked for anew, if nobody has them come by themselves.
FRESH = 1
Usage = TypedDict(
    "Usage",
    {
        "name": str,
        "pid": int,
        "arch": str,
        "accel": str,
        "status": Status,
        "cpus": int,
        "uptime": float,
        "cpu-time": float,
        "process-time": float,
        "memory-maximum": int,
        "memory-current": int,
        "memory-used": NotRequired[int],
        "memory-resident": int,
        "disk-read": int,
        "disk-written": int,
        "net-received": int,
        "net-sent": int,
    },
)


@command("x-usage")
def usage(client: Client) -> Usage:
    """The machine's use of CPUs (seconds so far), memory, disks and networks (bytes so far).

    memory-used is what the guest last told of itself, where it has a driver for its balloon.
    """
    from emu.virtio.blk import VirtioBlk
    from emu.virtio.net import VirtioNet

    machine = client.machine
    devices = [entry.virtio for entry in machine.inventory.devices]
    disks = [device.counts for device in devices if isinstance(device, VirtioBlk)]
    cards = [device.traffic for device in devices if isinstance(device, VirtioNet)]
    told: Usage = {
        "name": client.control.name,
        "pid": os.getpid(),
        "arch": machine.board.arch,
        "accel": machine.accel_name,
        "status": client.run.status,
        "cpus": len(machine.cpus),
        "uptime": time.time() - client.control.began,
        "cpu-time": sum(cpu.seconds() for cpu in machine.cpus),
        "process-time": time.process_time(),
        "memory-maximum": machine.ram,
        "memory-current": machine.ram,
        "memory-resident": _resident(),
        "disk-read": sum(counts["read"]["bytes"] for counts in disks),
        "disk-written": sum(counts["write"]["bytes"] for counts in disks),
        "net-received": sum(counts["received"] for counts in cards),
        "net-sent": sum(counts["sent"] for counts in cards),
    }
    try:
        balloon = balloon_of(machine)
    except CommandError:
        return told
    told["memory-current"] = max(0, machine.ram - balloon.actual)
    stats = balloon.stats
    free = stats.get("stat-available-memory", stats.get("stat-free-memory"))
    if free is not None and "stat-total-memory" in stats:
        told["memory-used"] = max(0, stats["stat-total-memory"] - free)
    if not balloon.interval and time.time() - stats["last-update"] >= FRESH:
        balloon.ask()
    return told


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
