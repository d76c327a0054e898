"""QMP: virtual CPUs."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from emu.monitor.command import CommandError, command
from emu.monitor.types import CPUS, cpu_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

InstanceProperties = TypedDict(
    "InstanceProperties",
    {
        "socket-id": NotRequired[int],
        "cluster-id": NotRequired[int],
        "core-id": NotRequired[int],
        "thread-id": NotRequired[int],
    },
)
CpuInfo = TypedDict(
    "CpuInfo",
    {"cpu-index": int, "qom-path": str, "thread-id": int, "props": InstanceProperties, "target": str},
)
HotpluggableCpu = TypedDict(
    "HotpluggableCpu",
    {"type": str, "vcpus-count": int, "props": InstanceProperties, "qom-path": NotRequired[str]},
)
CpuDefinition = TypedDict(
    "CpuDefinition",
    {
        "name": str,
        "typename": str,
        "migration-safe": bool,
        "static": bool,
        "unavailable-features": list[str],
        "deprecated": bool,
    },
)


class CpuModel(TypedDict):
    name: str
    props: NotRequired[Any]


class Expansion(TypedDict):
    model: CpuModel


def _place(client: Client, index: int) -> InstanceProperties:
    place: InstanceProperties = {"socket-id": 0, "core-id": index, "thread-id": 0}
    if client.machine.board.arch in ("aarch64", "arm"):
        place["cluster-id"] = 0
    return place


@command("query-cpus-fast")
def query_cpus_fast(client: Client) -> list[CpuInfo]:
    """The CPUs and the host's threads that run them; their guest is not interrupted."""
    return [
        {
            "cpu-index": index,
            "qom-path": f"/machine/unattached/device[{index}]",
            "thread-id": cpu.begin(),
            "props": _place(client, index),
            "target": client.machine.board.arch,
        }
        for index, cpu in enumerate(client.machine.cpus)
    ]


@command("query-hotpluggable-cpus")
def query_hotpluggable_cpus(client: Client) -> list[HotpluggableCpu]:
    """CPUs that could be plugged in: those that are in, and no more."""
    return [
        {
            "type": cpu_type(client.machine),
            "vcpus-count": 1,
            "props": _place(client, index),
            "qom-path": f"/machine/unattached/device[{index}]",
        }
        for index in range(len(client.machine.cpus))
    ]


@command("query-cpu-definitions")
def query_cpu_definitions(client: Client) -> list[CpuDefinition]:
    """The models of CPU there are; max is the usual one, host the host's own, which KVM has."""
    from emu.system.types import cpus

    arch = client.machine.board.arch
    return [
        {
            "name": name,
            "typename": f"{name}-{CPUS[arch]}",
            "migration-safe": False,
            "static": False,
            "unavailable-features": [],
            "deprecated": False,
        }
        for name in cpus(arch)
    ]


@command("query-cpu-model-expansion")
def query_cpu_model_expansion(client: Client, type: Literal["static", "full"], model: CpuModel) -> Expansion:
    """The features of a model, by name: none can be chosen here, so there are none."""
    if model["name"] not in [each["name"] for each in query_cpu_definitions(client)]:
        raise CommandError(f"The CPU type '{model['name']}' is not a recognized CPU type")
    return {"model": {"name": model["name"], "props": {}}}
