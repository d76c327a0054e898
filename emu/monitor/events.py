"""Events: what a machine tells every QMP client, without being asked.

The order that clients rely on: STOP, RESUME, RESET, POWERDOWN and SHUTDOWN come before the reply of the
command that caused them; after a guest's power-off SHUTDOWN comes before STOP.
"""

from __future__ import annotations

import time
from typing import Any, Literal, NotRequired, TypedDict

ShutdownCause = Literal[
    "none", "host-error", "host-qmp-quit", "host-qmp-system-reset", "host-signal", "host-ui",
    "guest-shutdown", "guest-reset", "guest-panic", "subsystem-reset", "snapshot-load",
]  # fmt: skip


class EndData(TypedDict):
    guest: bool
    reason: ShutdownCause


class BalloonData(TypedDict):
    actual: int


MigrationStatus = Literal[
    "none", "setup", "cancelling", "cancelled", "active", "completed", "failed", "pre-switchover", "device",
]  # fmt: skip


class MigrationData(TypedDict):
    status: MigrationStatus


PassData = TypedDict("PassData", {"pass": int})


class PortData(TypedDict):
    id: str
    open: bool


class DeletedData(TypedDict):
    device: NotRequired[str]
    path: str


DumpStatus = Literal["none", "active", "completed", "failed"]


class DumpResult(TypedDict):
    status: DumpStatus
    completed: int
    total: int


class DumpData(TypedDict):
    result: DumpResult
    error: NotRequired[str]


JobStatus = Literal[
    "undefined", "created", "running", "paused", "ready", "standby", "waiting", "pending", "aborting",
    "concluded", "null",
]  # fmt: skip
JobType = Literal["backup", "mirror", "create"]


class JobStatusData(TypedDict):
    id: str
    status: JobStatus


class BlockJobData(TypedDict):
    type: JobType
    device: str
    len: int
    offset: int
    speed: int


class BlockJobEndData(BlockJobData):
    error: NotRequired[str]


class BlockJobErrorData(TypedDict):
    device: str
    operation: Literal["read", "write"]
    action: Literal["ignore", "report", "stop"]


class BlockJobPendingData(TypedDict):
    type: JobType
    id: str


# What each brings; None for nothing.
EVENTS: dict[str, Any] = {
    "SHUTDOWN": EndData,
    "POWERDOWN": None,
    "RESET": EndData,
    "STOP": None,
    "RESUME": None,
    "BALLOON_CHANGE": BalloonData,
    "MIGRATION": MigrationData,
    "MIGRATION_PASS": PassData,
    "VSERPORT_CHANGE": PortData,
    "DEVICE_DELETED": DeletedData,
    "DUMP_COMPLETED": DumpData,
    "JOB_STATUS_CHANGE": JobStatusData,
    "BLOCK_JOB_COMPLETED": BlockJobEndData,
    "BLOCK_JOB_CANCELLED": BlockJobData,
    "BLOCK_JOB_ERROR": BlockJobErrorData,
    "BLOCK_JOB_READY": BlockJobData,
    "BLOCK_JOB_PENDING": BlockJobPendingData,
}


class Event:
    """One event, stamped when it is made."""

    __slots__ = ("data", "microseconds", "name", "seconds")

    def __init__(self, name: str, data: Any = None) -> None:
        assert name in EVENTS, name
        self.name = name
        self.data = data
        self.seconds, self.microseconds = divmod(time.time_ns() // 1000, 1_000_000)

    def message(self) -> dict[str, Any]:
        """As it is sent."""
        stamp = {"seconds": self.seconds, "microseconds": self.microseconds}
        told: dict[str, Any] = {"timestamp": stamp, "event": self.name}
        if self.data is not None:
            told["data"] = self.data
        return told
