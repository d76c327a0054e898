"""QMP: boards, engines, and the things that a machine of emu never has, which clients ask for."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from emu.monitor.command import CommandError, command
from emu.monitor.types import CPUS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

# x86's input for what cannot be masked (Vcpu.interrupt).
NMI = 1
Architecture = Literal["aarch64", "arm", "riscv64", "x86_64"]


class TargetInfo(TypedDict):
    arch: Architecture


class KvmInfo(TypedDict):
    enabled: bool
    present: bool


@command("query-target")
def query_target(client: Client) -> TargetInfo:
    """The architecture of the guest's CPUs."""
    arch: Any = client.machine.board.arch
    return {"arch": arch}


@command("query-kvm")
def query_kvm(client: Client) -> KvmInfo:
    """Whether KVM runs the guest, and whether it could."""
    enabled = client.machine.accel.caps.name == "kvm"
    return {"enabled": enabled, "present": enabled or _kvm_could(client.machine.board.arch)}


def _kvm_could(arch: str) -> bool:
    """Whether this host's KVM runs guests of an architecture."""
    import os
    import platform

    from accel.errors import Unavailable
    from accel.kvm.device import open_device

    if platform.machine() != arch:
        return False
    try:
        os.close(open_device())
    except Unavailable:
        return False
    return True


MachineInfo = TypedDict(
    "MachineInfo",
    {
        "name": str,
        "cpu-max": int,
        "hotpluggable-cpus": bool,
        "numa-mem-supported": bool,
        "deprecated": bool,
        "alias": NotRequired[str],
        "is-default": NotRequired[bool],
        "default-ram-id": NotRequired[str],
        "default-cpu-type": NotRequired[str],
    },
)


@command("query-machines")
def query_machines(client: Client) -> list[MachineInfo]:
    """The boards there are for this architecture, and `none`, which programs ask with."""
    from emu.system.types import machines

    arch = client.machine.board.arch
    told: list[MachineInfo] = []
    for board in machines(arch):
        info: MachineInfo = {
            "name": board.name,
            "cpu-max": max(board.cpus, 1),
            "hotpluggable-cpus": False,
            "numa-mem-supported": False,
            "deprecated": False,
        }
        if board.default:
            info["is-default"] = True
        if board.alias:
            info["alias"] = board.alias
        if board.cpu:
            info["default-cpu-type"] = f"{board.cpu}-{CPUS[arch]}"
        if board.ram_id:
            info["default-ram-id"] = board.ram_id
        told.append(info)
    return told


ParameterType = Literal["string", "boolean", "number", "size"]


class ParameterInfo(TypedDict):
    name: str
    type: ParameterType
    help: str


class OptionInfo(TypedDict):
    option: str
    parameters: list[ParameterInfo]


@command("query-command-line-options")
def query_command_line_options(client: Client, option: str | None = None) -> list[OptionInfo]:
    """The command line's options that clients ask for, with their parameters."""
    from emu.system.sandbox import PARAMETERS

    enable: ParameterInfo = {"name": "enable", "type": "boolean", "help": "whether there is a filter"}
    words: list[ParameterInfo] = [
        {"name": name, "type": "string", "help": text} for name, text in PARAMETERS.items()
    ]
    told: list[OptionInfo] = [{"option": "sandbox", "parameters": [enable, *words]}]
    found = [each for each in told if option in (None, each["option"])]
    if not found:
        raise CommandError(f"invalid option name: {option}")
    return found


WakeupInfo = TypedDict("WakeupInfo", {"wakeup-suspend-support": bool})


@command("query-current-machine")
def query_current_machine(client: Client) -> WakeupInfo:
    """Whether a guest that has suspended itself can be woken: it cannot suspend."""
    return {"wakeup-suspend-support": False}


@command("query-mice")
def query_mice(client: Client) -> list[dict[str, Any]]:
    """The mice: there are none."""
    return []


@command("query-iothreads")
def query_iothreads(client: Client) -> list[dict[str, Any]]:
    """Threads that a client has made for devices: none; each device has its own."""
    return []


class GicCapability(TypedDict):
    version: int
    emulated: bool
    kernel: bool


@command("query-gic-capabilities")
def query_gic_capabilities(client: Client) -> list[GicCapability]:
    """The versions of Arm's interrupt controller that there are."""
    if client.machine.board.arch not in ("aarch64", "arm"):
        return []
    return [{"version": version, "emulated": True, "kernel": False} for version in (3, 2)]


@command("query-tpm-models")
def query_tpm_models(client: Client) -> list[str]:
    """The TPMs there are: none."""
    return []


@command("query-tpm-types")
def query_tpm_types(client: Client) -> list[str]:
    """The kinds of TPM there are: none."""
    return []


@command("query-tpm")
def query_tpm(client: Client) -> list[dict[str, Any]]:
    """The machine's TPMs: none."""
    return []


class Enabled(TypedDict):
    enabled: bool


@command("query-vnc")
def query_vnc(client: Client) -> Enabled:
    """Whether somebody can look at the machine's display: it has none."""
    return {"enabled": False}


@command("query-spice")
def query_spice(client: Client) -> Enabled:
    """Whether somebody can look at the machine's display: it has none."""
    return {"enabled": False}


DirtyRateInfo = TypedDict(
    "DirtyRateInfo",
    {
        "status": Literal["unstarted", "measuring", "measured"],
        "start-time": int,
        "calc-time": int,
        "sample-pages": int,
        "mode": Literal["page-sampling", "dirty-ring", "dirty-bitmap"],
    },
)


@command("query-dirty-rate")
def query_dirty_rate(client: Client) -> DirtyRateInfo:
    """How fast the guest writes its memory: that was not measured."""
    return {
        "status": "unstarted",
        "start-time": 0,
        "calc-time": 0,
        "sample-pages": 0,
        "mode": "page-sampling",
    }


@command("query-stats")
def query_stats(
    client: Client,
    target: Literal["vm", "vcpu", "cryptodev"],
    providers: list[dict[str, Any]] | None = None,
    vcpus: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Counts of the engine by provider: none are kept."""
    return []


@command("query-stats-schemas")
def query_stats_schemas(client: Client, provider: str | None = None) -> list[dict[str, Any]]:
    """What query-stats could tell: nothing."""
    return []


KeyType = Literal["qcode", "number"]


class KeyValue(TypedDict):
    type: KeyType
    data: str | int


@command("send-key")
def send_key(client: Client, keys: list[KeyValue], hold_time: int | None = None) -> None:
    """Presses keys: there is no keyboard, and this tells so."""
    raise CommandError("this machine has no keyboard; type on its serial line, or on a console (--console)")


@command("screendump")
def screendump(
    client: Client,
    filename: str,
    device: str | None = None,
    head: int | None = None,
    format: Literal["ppm", "png"] = "ppm",
) -> None:
    """Writes what a display shows into a file: there is no display, and this tells so."""
    raise CommandError("There is no console to take a screendump from; this machine has no display")


Action = Literal["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"]


@command("watchdog-set-action")
def watchdog_set_action(client: Client, action: Action) -> None:
    """What is done when a watchdog barks: the boards have none, so nothing ever is."""


@command("set-action")
def set_action(
    client: Client,
    reboot: Literal["reset", "shutdown"] | None = None,
    shutdown: Literal["poweroff", "pause"] | None = None,
    panic: Literal["pause", "shutdown", "exit-failure", "none"] | None = None,
    watchdog: Action | None = None,
) -> None:
    """What is done when the guest resets or ends; no board tells of a panic, and none has a watchdog."""
    if reboot is not None:
        client.run.no_reboot = reboot == "shutdown"
    if shutdown is not None:
        client.run.no_shutdown = shutdown == "pause"


@command("inject-nmi")
def inject_nmi(client: Client) -> None:
    """Interrupts every CPU, whatever it has masked."""
    if client.machine.board.arch != "x86_64":
        raise CommandError("this architecture has no interrupt that cannot be masked")
    for cpu in client.machine.cpus:
        cpu.interrupt(NMI, 1)


@command("rtc-reset-reinjection")
def rtc_reset_reinjection(client: Client) -> None:
    """Forgets timer ticks that the guest has missed: none are kept for it."""


@command("set_password")
def set_password(
    client: Client,
    protocol: Literal["vnc", "spice"],
    password: str,
    connected: Literal["keep", "fail", "disconnect"] = "keep",
    display: str | None = None,
) -> None:
    """Sets the password of a display: there is none, and this tells so."""
    raise CommandError(f"Could not set password: this machine has no display that {protocol} could show")


@command("expire_password")
def expire_password(
    client: Client, protocol: Literal["vnc", "spice"], time: str, display: str | None = None
) -> None:
    """Ends the password of a display: there is none, and this tells so."""
    raise CommandError(f"Could not set password expire time: no display that {protocol} could show")
