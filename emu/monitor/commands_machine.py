"""QMP: boards, engines, and the things that a machine of emu never has, which clients ask for."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from emu.monitor.command import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

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
