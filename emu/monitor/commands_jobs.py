"""QMP: disks are copied while their guests go on, and images are made; by jobs (emu/monitor/jobs.py)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from emu.inventory import Node
from emu.monitor.command import CommandError, Size, command
from emu.monitor.commands_block import find_disk
from emu.monitor.events import JobStatus, JobType
from emu.monitor.jobs import CopyJob, Job, find_job, refuse_busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.monitor.client import Client

UNLIMITED = Size(0)
OnError = Literal["report", "ignore", "enospc", "stop", "auto"]
Sync = Literal["top", "full", "none", "incremental", "bitmap"]

BlockJobInfo = TypedDict(
    "BlockJobInfo",
    {
        "device": str,
        "type": JobType,
        "len": int,
        "offset": int,
        "busy": bool,
        "paused": bool,
        "speed": int,
        "io-status": Literal["ok", "failed", "nospace"],
        "ready": bool,
        "status": JobStatus,
        "auto-finalize": bool,
        "auto-dismiss": bool,
        "error": NotRequired[str],
    },
)
JobInfo = TypedDict(
    "JobInfo",
    {
        "id": str,
        "type": JobType,
        "status": JobStatus,
        "current-progress": int,
        "total-progress": int,
        "error": NotRequired[str],
    },
)


@command("query-block-jobs")
def query_block_jobs(client: Client) -> list[BlockJobInfo]:
    """Disks that are being copied."""
    told: list[BlockJobInfo] = []
    for job in list(client.run.jobs.values()):
        if not isinstance(job, CopyJob):
            continue
        job.look()
        info: BlockJobInfo = {
            "device": job.id,
            "type": job.type,
            "len": job.progress[1],
            "offset": job.progress[0],
            "busy": job.status == "running" and not job.paused,
            "paused": job.paused,
            "speed": job.speed,
            "io-status": "ok",
            "ready": job.status == "ready",
            "status": job.status,
            "auto-finalize": job.auto_finalize,
            "auto-dismiss": job.auto_dismiss,
        }
        if job.error:
            info["error"] = job.error
        told.append(info)
    return told


@command("query-jobs")
def query_jobs(client: Client) -> list[JobInfo]:
    """All jobs."""
    told: list[JobInfo] = []
    for job in list(client.run.jobs.values()):
        if isinstance(job, CopyJob):
            job.look()
        info: JobInfo = {
            "id": job.id,
            "type": job.type,
            "status": job.status,
            "current-progress": job.progress[0],
            "total-progress": job.progress[1],
        }
        if job.error:
            info["error"] = job.error
        told.append(info)
    return told


@command("block-job-cancel")
def block_job_cancel(client: Client, device: str, force: bool = False) -> None:
    """Gives a copy up; a mirror that is ready is completed, and the guest stays with what it has."""
    find_job(client.run, device, "Block job").cancel(force)


@command("job-cancel")
def job_cancel(client: Client, id: str) -> None:
    """Gives a job up."""
    find_job(client.run, id).cancel(True)


@command("block-job-complete")
def block_job_complete(client: Client, device: str) -> None:
    """Gives the guest the target of a mirror that is ready."""
    find_job(client.run, device, "Block job").complete()


@command("job-complete")
def job_complete(client: Client, id: str) -> None:
    """Gives the guest the target of a mirror that is ready."""
    find_job(client.run, id).complete()


@command("block-job-pause")
def block_job_pause(client: Client, device: str) -> None:
    """Copies nothing for now."""
    find_job(client.run, device, "Block job").pace(paused=True)


@command("block-job-resume")
def block_job_resume(client: Client, device: str) -> None:
    """Copies on."""
    find_job(client.run, device, "Block job").pace(paused=False)


@command("block-job-set-speed")
def block_job_set_speed(client: Client, device: str, speed: Size) -> None:
    """Bytes a second that are copied at most; 0: as many as there can be."""
    find_job(client.run, device, "Block job").pace(speed=speed)


@command("block-job-finalize")
def block_job_finalize(client: Client, id: str) -> None:
    """Ends a copy that waits for this."""
    job_finalize(client, id)


@command("job-finalize")
def job_finalize(client: Client, id: str) -> None:
    """Ends a job that waits for this."""
    job = find_job(client.run, id)
    if job.status != "pending":
        raise CommandError(f"Job '{id}' in state '{job.status}' cannot accept command verb 'finalize'")
    job.finalize()


@command("block-job-dismiss")
def block_job_dismiss(client: Client, id: str) -> None:
    """Forgets a copy that has ended."""
    job_dismiss(client, id)


@command("job-dismiss")
def job_dismiss(client: Client, id: str) -> None:
    """Forgets a job that has ended."""
    job = find_job(client.run, id)
    if job.status != "concluded":
        raise CommandError(f"Job '{id}' in state '{job.status}' cannot accept command verb 'dismiss'")
    job.dismiss()


def _copy(
    client: Client, type: JobType, id: str | None, device: str, target: Node, sync: Sync, **how: Any
) -> CopyJob:
    """Begins a copy.  Raises CommandError; nothing is left then but a target that was there."""
    entry, _, source = find_disk(client, device, device)
    if sync != "full":
        raise CommandError(f"sync={sync} is not supported; use full")
    for node in (source, target):
        refuse_busy(client.run, node)
    if target.image is None or target.read_only or any(target is each for each in _used(client)):
        raise CommandError(f"node {target.name} cannot be copied to; give an image that nobody uses")
    job = CopyJob(client.run, id or device, type, entry, source, target, **how)
    job.begin()
    return job


def _used(client: Client) -> list[Node | None]:
    from emu.monitor.commands_block import disks

    used: list[Node | None] = [node for _, _, node in disks(client)]
    return used + [each.backing for each in client.machine.inventory.nodes.values()]


def _target(client: Client, name: str) -> Node:
    node = client.machine.inventory.nodes.get(name)
    if node is None:
        raise CommandError(f"Cannot find device='{name}' nor node-name='{name}'")
    return node


@command("blockdev-backup")
def blockdev_backup(
    client: Client,
    device: str,
    target: str,
    sync: Sync,
    job_id: str | None = None,
    speed: Size = UNLIMITED,
    compress: bool = False,
    on_source_error: OnError = "report",
    on_target_error: OnError = "report",
    auto_finalize: bool = True,
    auto_dismiss: bool = True,
    filter_node_name: str | None = None,
) -> None:
    """Copies a disk, as it is now, to another node; the guest goes on meanwhile."""
    if compress:
        raise CommandError("compress is not supported; leave it off")
    how = {"speed": speed, "auto_finalize": auto_finalize, "auto_dismiss": auto_dismiss}
    _copy(client, "backup", job_id, device, _target(client, target), sync, **how)


@command("blockdev-mirror")
def blockdev_mirror(
    client: Client,
    device: str,
    target: str,
    sync: Sync,
    job_id: str | None = None,
    speed: Size = UNLIMITED,
    granularity: Size | None = None,
    buf_size: Size | None = None,
    on_source_error: OnError = "report",
    on_target_error: OnError = "report",
    filter_node_name: str | None = None,
    copy_mode: Literal["background", "write-blocking"] = "background",
    auto_finalize: bool = True,
    auto_dismiss: bool = True,
) -> None:
    """Makes another node the same as a disk and keeps it so, until block-job-complete gives the guest that
    one, or block-job-cancel leaves it aside."""
    how = {"speed": speed, "auto_finalize": auto_finalize, "auto_dismiss": auto_dismiss}
    _copy(client, "mirror", job_id, device, _target(client, target), sync, **how)


def _new_target(client: Client, device: str, filename: str, format: str | None, existing: bool) -> Node:
    """The node of a file that drive-backup and drive-mirror name, which is made."""
    import emu.block
    from emu.block.graph import open_node, unused_name

    _, disk, source = find_disk(client, device, device)
    inventory = client.machine.inventory
    kind = format or source.driver
    if kind not in emu.block.FORMATS:
        raise CommandError(f"format {kind} is not supported; use {', '.join(emu.block.FORMATS)}")
    if not existing:
        _format(Path(filename), kind, disk.image.size)
    file = Node(unused_name(inventory), "file", filename)
    made = Node("", kind, filename, child=file, discard=True)
    open_node(made)
    inventory.add_node(file)
    made.name = unused_name(inventory)
    return inventory.add_node(made)


@command("drive-backup")
def drive_backup(
    client: Client,
    device: str,
    target: str,
    sync: Sync,
    job_id: str | None = None,
    format: str | None = None,
    mode: Literal["existing", "absolute-paths"] = "absolute-paths",
    speed: Size = UNLIMITED,
    auto_finalize: bool = True,
    auto_dismiss: bool = True,
) -> None:
    """Copies a disk, as it is now, to a file; the guest goes on meanwhile."""
    _to_file(client, "backup", device, target, sync, job_id, format, mode, speed, auto_finalize, auto_dismiss)


@command("drive-mirror")
def drive_mirror(
    client: Client,
    device: str,
    target: str,
    sync: Sync,
    job_id: str | None = None,
    format: str | None = None,
    node_name: str | None = None,
    mode: Literal["existing", "absolute-paths"] = "absolute-paths",
    speed: Size = UNLIMITED,
    auto_finalize: bool = True,
    auto_dismiss: bool = True,
) -> None:
    """Makes a file the same as a disk and keeps it so, until the job is completed or given up."""
    _to_file(client, "mirror", device, target, sync, job_id, format, mode, speed, auto_finalize, auto_dismiss)


def _to_file(
    client: Client,
    type: JobType,
    device: str,
    filename: str,
    sync: Sync,
    id: str | None,
    format: str | None,
    mode: str,
    speed: int,
    auto_finalize: bool,
    auto_dismiss: bool,
) -> None:
    from emu.block.graph import remove_node

    if sync != "full":
        raise CommandError(f"sync={sync} is not supported; use full")
    target = _new_target(client, device, filename, format, mode == "existing")
    how = {"speed": speed, "auto_finalize": auto_finalize, "auto_dismiss": auto_dismiss, "owned": True}
    try:
        _copy(client, type, id, device, target, sync, **how)
    except BaseException:
        for node in (target, target.child):
            if node is not None:
                remove_node(client.machine.inventory, node)
        raise


class CreateJob(Job):
    """An image is made; at once."""


@command("blockdev-create")
def blockdev_create(client: Client, job_id: str, options: dict[str, Any]) -> None:
    """Makes a file of a size, or an image in the file of a node, by a job that job-dismiss ends."""
    job = CreateJob(client.run, job_id, "create", auto_dismiss=False)
    job.begin()
    try:
        _create(client, dict(options))
    except (CommandError, OSError) as error:
        job.failed(str(error))
    except Exception as error:
        from emu.monitor.client import failure

        job.failed(str(failure("blockdev-create", error)))
    else:
        job.progress = (1, 1)
        job.done()


# The names of qcow2's versions, and what else blockdev-create may say of it that is so anyway.
VERSIONS = {"v2": 2, "v3": 3}


def _create(client: Client, options: dict[str, Any]) -> None:
    driver, size = options.pop("driver", ""), options.pop("size", None)
    if not isinstance(size, int) or not 0 <= size < 1 << 62:
        raise CommandError("Parameter 'size' expects a size in bytes")
    size = -(-size // 512) * 512
    if driver == "file":
        path = Path(str(options.pop("filename", "")))
        _none_left(options)
        with open(path, "wb", opener=_created) as file:
            file.truncate(size)
        return
    if driver not in ("raw", "qcow2"):
        raise CommandError(f"block driver {driver!r} is not supported; use file, raw or qcow2")
    file_node = options.pop("file", None)
    node = client.machine.inventory.nodes.get(file_node) if isinstance(file_node, str) else None
    if node is None:
        raise CommandError(f"Cannot find device='{file_node}' nor node-name='{file_node}'")
    more: dict[str, Any] = {}
    if driver == "qcow2":
        more = _of_qcow2(options)
    _none_left(options)
    _format(Path(node.filename), driver, size, **more)


def _of_qcow2(options: dict[str, Any]) -> dict[str, Any]:
    version = options.pop("version", "v3")
    if version not in VERSIONS:
        raise CommandError(f"Parameter 'version' does not accept value '{version}'")
    more: dict[str, Any] = {"version": VERSIONS[version]}
    for name, ours in (
        ("backing-file", "backing"),
        ("backing-fmt", "backing_format"),
        ("cluster-size", "cluster_size"),
        ("preallocation", "preallocation"),
        ("lazy-refcounts", "lazy_refcounts"),
        ("refcount-bits", "refcount_bits"),
    ):
        if name in options:
            more[ours] = options.pop(name)
    return more


def _none_left(options: dict[str, Any]) -> None:
    for name in options:
        raise CommandError(f"Parameter '{name}' is unexpected")


def _created(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _format(path: Path, format: str, size: int, **more: Any) -> None:
    """Makes an image in a file, which stays the same file where it is there already."""
    import emu.block
    from emu.snapshot.store import copy_data

    if not path.exists():
        emu.block.create(path, size, format=format, **more)
        return
    with emu.block.open(path, format="raw"):
        pass  # nobody has it, or this says so
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        emu.block.create(aside, size, format=format, **more)
        with open(aside, "rb") as source, open(path, "r+b") as target:
            target.truncate(0)
            copy_data(source.fileno(), target.fileno())
    finally:
        aside.unlink(missing_ok=True)
