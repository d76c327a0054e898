"""QMP: run states, the monitors themselves, and what the machine is called."""

from __future__ import annotations

import os
from typing import Any, NotRequired, TypedDict

from emu.monitor.command import CommandError, Later, command, commands
from emu.monitor.qmp import VERSION, VersionTriple
from emu.run_state import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client


class StatusInfo(TypedDict):
    running: bool
    singlestep: bool
    status: Status


class VersionInfo(TypedDict):
    qemu: VersionTriple
    package: str


class NamedInfo(TypedDict):
    name: str


class NameInfo(TypedDict):
    name: NotRequired[str]


class UuidInfo(TypedDict):
    UUID: str


@command("query-status")
def query_status(client: Client) -> StatusInfo:
    """The machine's run state."""
    return {"status": client.run.status, "singlestep": False, "running": client.run.running}


@command("stop")
def stop(client: Client) -> None:
    """Holds the machine, if it runs."""
    client.run.stop()


@command("cont")
def cont(client: Client) -> None:
    """Lets the machine run."""
    client.run.cont()


@command("system_reset")
def system_reset(client: Client) -> None:
    """Resets the machine."""
    client.run.reset()


@command("system_powerdown")
def system_powerdown(client: Client) -> None:
    """Presses the power button."""
    client.run.powerdown()


@command("x-switch")
def switch(client: Client, accel: str) -> None:
    """Moves the guest to another accelerator, kvm or tcg, where it goes on; ours, not QEMU's."""
    client.run.machine.switch(accel)


@command("quit")
def quit(client: Client) -> None:
    """Ends the machine and this process."""
    client.run.quit()


@command("query-version")
def query_version(client: Client) -> VersionInfo:
    """The version of QEMU whose commands these are, and our own."""
    from emu import __version__

    return {"qemu": VERSION, "package": f"emu {__version__}"}


@command("query-commands")
def query_commands(client: Client) -> list[NamedInfo]:
    """The names of all commands."""
    return [{"name": name} for name in commands()]


@command("query-events")
def query_events(client: Client) -> list[NamedInfo]:
    """The names of all events."""
    from emu.monitor.events import EVENTS

    return [{"name": name} for name in EVENTS]


@command("query-qmp-schema")
def query_qmp_schema(client: Client) -> list[dict[str, Any]]:
    """What commands and events take and give."""
    from emu.monitor.schema import schema

    return schema()


@command("query-name")
def query_name(client: Client) -> NameInfo:
    """The machine's name, if it has one."""
    return {"name": client.control.name} if client.control.name else {}


@command("query-uuid")
def query_uuid(client: Client) -> UuidInfo:
    """The machine's UUID, or one of zeros."""
    return {"UUID": client.control.uuid}


@command("getfd")
def getfd(client: Client, fdname: str) -> None:
    """Names the descriptor that came with this command; one that had the name is closed."""
    if not client.passed:
        raise CommandError("No file descriptor supplied via SCM_RIGHTS")
    if fdname[:1].isdigit() or not fdname:
        raise CommandError("Parameter 'fdname' expects a name not starting with a digit")
    fd = client.passed.popleft()
    before = client.descriptors.pop(fdname, None)
    if before is not None:
        os.close(before)
    client.descriptors[fdname] = fd


@command("closefd")
def closefd(client: Client, fdname: str) -> None:
    """Closes a descriptor that getfd has named."""
    fd = client.descriptors.pop(fdname, None)
    if fd is None:
        raise CommandError(f"File descriptor named '{fdname}' not found")
    os.close(fd)


@command("human-monitor-command")
def human_monitor_command(
    client: Client, command_line: str, cpu_index: int | None = None
) -> str | Later[str]:
    """What the human monitor answers to a line; what fails in it is told in the text too."""
    from emu.monitor.hmp import Hmp

    hmp = Hmp(client)
    if cpu_index is not None:
        hmp.choose_cpu(cpu_index)
    return hmp.execute(command_line)
