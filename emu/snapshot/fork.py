"""A second machine in the state of a first one, in the same process: memory is copied as it is written.

It is built as the first one was and takes its state as from a snapshot, which nobody need distrust here.  Why
no fork(2): the child would have neither the threads of vCPUs and devices nor a VM of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emu.machine import Machine
from emu.snapshot.save import flush_disks
from emu.snapshot.state import check_alike, put, regions, take


def fork(machine: Machine, accel: str | None, plugged: Iterable[tuple[Any, str]] = (), **own: Any) -> Machine:
    """The copy of a machine that stands still.

    plugged: devices that were plugged into it later, and their ports; own: what Machine() is given of the
    copy's own.

    Raises an EmuError.
    """
    kind, options, spec = machine.unbuilt
    board = kind.__new__(kind)
    vars(board).update(options)
    if accel is None:
        # One that was moved has the board's controllers.
        moved = {"kvm": "kvm,kernel-irqchip=off"}.get(machine.accel_name, machine.accel_name)
        accel = moved if len(machine.engines()) > 1 else spec
    flush_disks(machine)
    child = Machine(
        board,
        accel=accel,
        cpu=machine.cpu,
        cpus=machine.cpu_count,
        ram=machine.ram,
        firmware=machine.firmware,
        kernel=machine.kernel,
        initrd=machine.initrd,
        append=machine.append,
        dtb=machine.dtb,
        debugcon=None if machine.debugcon is None else "null",
        force_legacy=machine.force_legacy,
        fw_cfg=machine.fw_cfg,
        ahead=machine.ahead,
        **own,
    )
    try:
        for device, port in plugged:
            child.plug(device, port)
        state = take(machine)
        check_alike(child, state)
        child.prepare_to_load()
        for copy, first in zip(regions(child), regions(machine), strict=True):
            copy.become(first)
        put(child, state)
        child.loaded()
    except BaseException:
        child.close()
        raise
    return child
