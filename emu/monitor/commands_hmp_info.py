"""HMP: `info`, what there is to be seen of a machine."""

from __future__ import annotations

from emu.monitor.hmp import Hmp, hmp


@hmp("info status")
def info_status(monitor: Hmp) -> str:
    """The machine's run state."""
    if monitor.run.running:
        return "VM status: running\n"
    more = "" if monitor.run.status == "paused" else f" ({monitor.run.status})"
    return f"VM status: paused{more}\n"


@hmp("info version")
def info_version(monitor: Hmp) -> str:
    """The version of emu, and of QEMU whose commands these are."""
    from emu import __version__
    from emu.monitor.qmp import VERSION

    return f"emu {__version__} (QEMU {VERSION['major']}.{VERSION['minor']}.{VERSION['micro']})\n"


@hmp("info name")
def info_name(monitor: Hmp) -> str:
    """The machine's name."""
    return f"{monitor.client.control.name}\n" if monitor.client.control.name else ""


@hmp("info uuid")
def info_uuid(monitor: Hmp) -> str:
    """The machine's UUID."""
    return f"{monitor.client.control.uuid}\n"


@hmp("info kvm")
def info_kvm(monitor: Hmp) -> str:
    """Whether KVM runs the guest."""
    on = monitor.machine.accel.caps.name == "kvm"
    return f"kvm support: {'enabled' if on else 'disabled'}\n"
