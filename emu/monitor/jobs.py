"""Jobs: what goes on for long with disks, by QMP's names of what it is at.

    created -> running [-> ready] -> waiting -> pending -> concluded -> null    cancelled or failed: aborting

A job is its run state's until it is dismissed, which happens by itself unless its client wants otherwise.
"""

from __future__ import annotations

from typing import Any

from accel.errors import EmuError
from emu.monitor.command import CommandError
from emu.monitor.events import JobStatus, JobType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.block.copying import Copy
    from emu.inventory import Entry, Node
    from emu.run_state import RunState

# Seconds between looks at a copy.
PAUSE = 0.05


class Job:
    """One job.  error: why it failed, or ""."""

    def __init__(
        self, run: RunState, id: str, type: JobType, *, auto_finalize: bool = True, auto_dismiss: bool = True
    ) -> None:
        if not id:
            raise CommandError("An explicit job ID is required for this node")
        if id in run.jobs:
            raise CommandError(f"Job ID '{id}' already in use")
        self.run = run
        self.id = id
        self.type = type
        self.auto_finalize = auto_finalize
        self.auto_dismiss = auto_dismiss
        self.status: JobStatus = "undefined"
        self.error = ""
        self.progress = (0, 0)

    def begin(self) -> None:
        """Enters it."""
        self.run.jobs[self.id] = self
        self.enter("created")
        self.enter("running")

    def enter(self, status: JobStatus) -> None:
        """Goes on to another status, and tells it."""
        self.status = status
        self.run.tell("JOB_STATUS_CHANGE", {"status": status, "id": self.id})

    def done(self) -> None:
        """The work is done; that it is over is told at once, or when its client says so."""
        self.enter("waiting")
        self.enter("pending")
        if self.auto_finalize:
            self.finalize()
        else:
            self.told_pending()

    def failed(self, error: str) -> None:
        """The work cannot go on."""
        self.error = error
        self.enter("aborting")
        self.finalize()

    def finalize(self) -> None:
        """It is over."""
        self.told_over()
        self.enter("concluded")
        if self.auto_dismiss:
            self.dismiss()

    def dismiss(self) -> None:
        """Forgets it."""
        self.enter("null")
        del self.run.jobs[self.id]

    def uses(self, node: Node | None) -> bool:
        """Whether it needs that node to stay as it is."""
        return False

    def told_pending(self) -> None:
        """Tells that it waits for its client."""

    def told_over(self) -> None:
        """Tells how it ended."""

    def cancel(self, force: bool) -> None:
        """Gives it up."""
        raise CommandError(f"Job '{self.id}' cannot be given up any more")

    def complete(self) -> None:
        """Ends what would go on for ever."""
        raise CommandError(f"The active block job '{self.id}' cannot be completed")

    def pace(self, speed: int | None = None, paused: bool | None = None) -> None:
        """Makes it slower, or faster."""

    def end(self) -> None:
        """The machine ends."""


class CopyJob(Job):
    """A disk's image is copied to another node.  owned: the target goes with the job."""

    def __init__(
        self, run: RunState, id: str, type: JobType, entry: Entry, source: Node, target: Node, **how: Any
    ) -> None:
        speed: int = how.pop("speed", 0)
        self.owned: bool = how.pop("owned", False)
        super().__init__(run, id, type, **how)
        self.entry = entry
        self.source = source
        self.target = target
        self.speed = speed
        self.paused = False
        self._copy: Copy | None = None

    def begin(self) -> None:
        from emu.block.copying import Copy
        from emu.virtio.blk import VirtioBlk

        assert isinstance(self.entry.virtio, VirtioBlk)
        assert self.target.image is not None
        self._copy = Copy(self.entry.virtio, self.target.image, mirror=self.type == "mirror")
        if self.speed:
            self.pace(self.speed)
        super().begin()
        self._watch()

    @property
    def copy(self) -> Copy:
        assert self._copy is not None
        return self._copy

    @property
    def active(self) -> bool:
        """Whether it copies."""
        return self.status in ("running", "ready")

    def uses(self, node: Node | None) -> bool:
        return self.active and node in (self.source, self.target, self.target.child)

    def look(self) -> None:
        """Takes the progress, and what has happened since."""
        if not self.active:
            return
        state = self.copy.look()
        self.progress = (state.total - state.left, state.total)
        try:
            self.copy.check()
            if self.type == "backup" and state.ended:
                self.copy.end()
                self.done()
            elif state.ready and self.status == "running":
                self.enter("ready")
                self.run.tell("BLOCK_JOB_READY", self._data())
        except EmuError as error:
            data = {"device": self.id, "operation": "write", "action": "report"}
            self.run.tell("BLOCK_JOB_ERROR", data)
            self._abandon()
            self.failed(str(error))

    def _watch(self) -> None:
        self.look()
        if self.active:
            self.run.machine.loop.call_later(PAUSE, self._watch)

    def _abandon(self) -> None:
        try:
            self.copy.end()
        except EmuError:
            pass  # it is known

    def _data(self) -> dict[str, Any]:
        done, total = self.progress
        return {"device": self.id, "len": total, "offset": done, "speed": self.speed, "type": self.type}

    def told_pending(self) -> None:
        self.run.tell("BLOCK_JOB_PENDING", {"type": self.type, "id": self.id})

    def told_over(self) -> None:
        if self.owned and self.target is not self.entry.node:
            from emu.block.graph import remove_node

            for node in (self.target, self.target.child):
                if node is not None:
                    remove_node(self.run.machine.inventory, node)
        data = self._data()
        if self.error == CANCELLED:
            self.run.tell("BLOCK_JOB_CANCELLED", data)
            return
        self.run.tell("BLOCK_JOB_COMPLETED", data | ({"error": self.error} if self.error else {}))

    def cancel(self, force: bool) -> None:
        self.look()
        if not self.active:
            super().cancel(force)
        if self.status == "ready" and not force:
            # The target is what the disk is now, and the guest goes on with what it has.
            try:
                self.copy.end(complete=True)
            except EmuError as error:
                self.failed(str(error))
                return
            self.done()
            return
        self._abandon()
        self.failed(CANCELLED)

    def complete(self) -> None:
        self.look()
        if self.status != "ready":
            raise CommandError(
                f"Job '{self.id}' in state '{self.status}' cannot accept command verb 'complete'"
            )
        try:
            self.copy.pivot()
        except EmuError as error:
            self.failed(str(error))
            return
        self.entry.node = self.target
        self.done()

    def pace(self, speed: int | None = None, paused: bool | None = None) -> None:
        self.speed = self.speed if speed is None else speed
        self.paused = self.paused if paused is None else paused
        self.copy.pace(self.speed, self.paused)

    def end(self) -> None:
        if self.active:
            self._abandon()


# The error of a job that its client gave up.
CANCELLED = "Operation was cancelled"


def find_job(run: RunState, id: str, kind: str = "Job") -> Job:
    """The job of that name.  Raises CommandError."""
    if id not in run.jobs:
        if kind == "Job":
            raise CommandError("Job not found")
        raise CommandError(f"Block job '{id}' not found", "DeviceNotActive")
    return run.jobs[id]


def refuse_busy(run: RunState, node: Node) -> None:
    """Raises CommandError for a node that a job needs as it is."""
    for job in run.jobs.values():
        if job.uses(node):
            raise CommandError(f"Node '{node.name}' is busy: block device is in use by block job: {job.type}")
