"""Disks are copied while somebody writes to them, and images are made, by QMP's jobs; events are QEMU's."""

import json
import random
import threading

import pytest

import emu.block
from emu.virtio.blk import VirtioBlk
from tests.emu.steered import steered
from tests.emu.test_qmp import Qemu

SIZE = 6 << 20


def pattern(seed, size=SIZE):
    """Blocks of random bytes, and some of zeros."""
    draw = random.Random(seed)
    return b"".join(
        draw.randbytes(65536) if draw.random() < 0.7 else bytes(65536) for _ in range(size // 65536)
    )


def disk(path, data, format="raw"):
    emu.block.create(path, len(data), format=format)
    image = emu.block.open(path, format=format)
    image.write(0, data)
    return VirtioBlk(image)


@pytest.fixture
def machine(tmp_path):
    disks = [disk(tmp_path / "a", pattern(1)), disk(tmp_path / "b", pattern(2), "qcow2")]
    with steered(tmp_path, virtio=disks, paused=True) as made:
        yield made


@pytest.fixture
def client(machine):
    made = machine.client()
    yield made
    made.close()


def nodes(client):
    """The nodes of the disks' images."""
    return [each["inserted"]["node-name"] for each in client.ask("query-block")]


def came(client, name):
    """Waits for an event that may have come before the last reply."""
    if name not in client.events:
        client.event(name)


def made(client, path, format="qcow2", name="target", size=SIZE):
    """A target, made as libvirt makes one: the file, its node, the image in it, and that one's node."""
    path.touch()
    client.ask("blockdev-add", driver="file", node_name=f"{name}-file", filename=str(path))
    options = {"driver": format, "file": f"{name}-file", "size": size}
    client.ask("blockdev-create", job_id="make", options=options)
    (job,) = client.ask("query-jobs")
    assert (job["status"], job.get("error")) == ("concluded", None)
    client.ask("job-dismiss", id="make")
    client.ask("blockdev-add", driver=format, node_name=name, file=f"{name}-file")
    return name


class Writer:
    """Writes to a disk all the while, as its guest's device does; `model` is what must be there."""

    def __init__(self, disk, seed=3):
        self.disk = disk
        self.model = bytearray(disk.image.read(0, disk.image.size))
        self._draw = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def write(self):
        size = self._draw.choice((512, 4096, 65536, 200_000 // 512 * 512))
        at = self._draw.randrange((len(self.model) - size) // 512) * 512
        with self.disk.held():
            if self._draw.random() < 0.1:
                self.disk.image.write_zeroes(at, size)
                self.model[at : at + size] = bytes(size)
            else:
                data = self._draw.randbytes(size)
                self.disk.image.write(at, data)
                self.model[at : at + size] = data

    def _work(self):
        while not self._stop.is_set():
            self.write()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def content(path, format):
    with emu.block.open(path, format=format, read_only=True, lock=False) as image:
        return image.read(0, image.size)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_mirror_is_the_disk_and_becomes_it(machine, client, tmp_path, number, format):
    target, source = made(client, tmp_path / "t", format), nodes(client)[number]
    device = machine.machine.virtio[number]
    with Writer(device) as writer:
        client.ask("blockdev-mirror", job_id="j", device=source, target=target, sync="full")
        told = client.event("BLOCK_JOB_READY")
        assert (told["device"], told["len"], told["type"]) == ("j", SIZE, "mirror")
        (job,) = client.ask("query-block-jobs")
        assert (job["ready"], job["status"], job["len"]) == (True, "ready", SIZE)
        client.ask("block-job-complete", device="j")
        assert nodes(client)[number] == target
    assert client.ask("query-jobs") == client.ask("query-block-jobs") == []
    assert device.image.read(0, SIZE) == writer.model
    device.image.flush()
    assert content(tmp_path / "t", format) == writer.model
    client.ask("blockdev-del", node_name=source)


@pytest.mark.parametrize("number", [0, 1])
def test_a_backup_is_what_the_disk_was(machine, client, tmp_path, number):
    target, source = made(client, tmp_path / "t"), nodes(client)[number]
    device = machine.machine.virtio[number]
    before = device.image.read(0, SIZE)
    client.ask("blockdev-backup", job_id="j", device=source, target=target, sync="full", speed=1 << 20)
    with Writer(device) as writer:
        machine.wait(lambda: client.ask("query-jobs")[0]["current-progress"] > SIZE // 4, "a part is copied")
        client.ask("block-job-set-speed", device="j", speed=0)
        assert client.event("BLOCK_JOB_COMPLETED") == {
            "device": "j", "len": SIZE, "offset": SIZE, "speed": 0, "type": "backup",
        }  # fmt: skip
    assert device.image.read(0, SIZE) == writer.model != before
    client.ask("blockdev-del", node_name=target)
    assert content(tmp_path / "t", "qcow2") == before
    assert emu.block.check(tmp_path / "t", format="qcow2").errors == 0


def test_a_mirror_that_is_given_up_when_it_is_ready_is_a_copy(machine, client, tmp_path):
    source = nodes(client)[0]
    client.ask(
        "drive-mirror", job_id="j", device=source, target=str(tmp_path / "t"), sync="full", format="raw"
    )
    client.event("BLOCK_JOB_READY")
    device = machine.machine.virtio[0]
    device.image.write(4096, b"late")
    client.ask("block-job-cancel", device="j")
    assert nodes(client)[0] == source
    device.image.write(4096, b"more")
    assert content(tmp_path / "t", "raw")[4096:4100] == b"late"
    with emu.block.open(tmp_path / "t", format="raw"):
        pass  # nobody has it any more


def test_what_is_copied_is_left_alone_meanwhile(machine, client, tmp_path):
    target, (source, other) = made(client, tmp_path / "t", "raw"), nodes(client)
    client.ask("blockdev-mirror", job_id="j", device=source, target=target, sync="full")
    busy = "is busy: block device is in use by block job: mirror"
    for name, arguments in (
        ("blockdev-del", {"node_name": target}),
        ("blockdev-del", {"node_name": "target-file"}),
        ("blockdev-mirror", {"job_id": "k", "device": source, "target": other, "sync": "full"}),
        ("blockdev-backup", {"job_id": "k", "device": other, "target": target, "sync": "full"}),
        ("blockdev-snapshot-sync", {"node_name": source, "snapshot_file": str(tmp_path / "s")}),
    ):
        said = client.error(name, **arguments)
        assert busy in said or "in use" in said, (name, said)
    assert "being copied" in client.error("block_resize", node_name=source, size=SIZE * 2)
    assert "already in use" in client.error(
        "drive-mirror", job_id="j", device=other, target=str(tmp_path / "x"), sync="full"
    )
    assert not (tmp_path / "s").exists()
    client.ask("block-job-pause", device="j")
    assert client.ask("query-block-jobs")[0]["paused"]
    client.ask("block-job-resume", device="j")
    client.ask("job-cancel", id="j")
    came(client, "BLOCK_JOB_CANCELLED")
    client.ask("blockdev-del", node_name=target)


@pytest.mark.parametrize(
    ("name", "arguments", "cause"),
    [
        (
            "blockdev-backup",
            {"job_id": "j", "device": "x", "target": "target", "sync": "full"},
            "Cannot find",
        ),
        (
            "blockdev-backup",
            {"job_id": "j", "device": "SOURCE", "target": "x", "sync": "full"},
            "Cannot find",
        ),
        (
            "blockdev-backup",
            {"job_id": "j", "device": "SOURCE", "target": "target", "sync": "top"},
            "use full",
        ),
        (
            "blockdev-mirror",
            {"job_id": "j", "device": "SOURCE", "target": "SOURCE", "sync": "full"},
            "nobody uses",
        ),
        (
            "blockdev-mirror",
            {"job_id": "j", "device": "SOURCE", "target": "small", "sync": "full"},
            "make it as large",
        ),
        ("drive-backup", {"device": "SOURCE", "target": "/nonexistent/x", "sync": "full"}, "No such file"),
        ("block-job-cancel", {"device": "j"}, "not found"),
        ("block-job-complete", {"device": "j"}, "not found"),
        ("job-dismiss", {"id": "j"}, "not found"),
    ],
)
def test_what_cannot_be_copied_is_told_and_leaves_nothing(client, tmp_path, name, arguments, cause):
    made(client, tmp_path / "t", "raw")
    made(client, tmp_path / "u", "raw", "small", 1 << 20)
    source = nodes(client)[0]
    named = len(client.ask("query-named-block-nodes"))
    arguments = {key: source if value == "SOURCE" else value for key, value in arguments.items()}
    assert cause in client.error(name, **arguments)
    assert client.ask("query-jobs") == []
    assert len(client.ask("query-named-block-nodes")) == named


def test_a_machine_ends_amid_copies(machine, client, tmp_path):
    for name, node in zip("tu", nodes(client), strict=True):
        client.ask(
            "drive-backup", job_id=name, device=node, target=str(tmp_path / name), sync="full", speed=65536
        )
    client.ask("quit")


def test_images_are_made_and_errors_are_the_jobs(client, tmp_path):
    path = tmp_path / "new"
    client.ask("blockdev-create", job_id="f", options={"driver": "file", "filename": str(path), "size": SIZE})
    client.ask("job-dismiss", id="f")
    assert path.stat().st_size == SIZE
    client.ask("blockdev-add", driver="file", node_name="n", filename=str(path))
    backing = {"backing-file": str(tmp_path / "a"), "backing-fmt": "raw", "version": "v2"}
    client.ask(
        "blockdev-create", job_id="q", options={"driver": "qcow2", "file": "n", "size": SIZE, **backing}
    )
    assert client.ask("query-jobs")[0].get("error") is None
    client.ask("job-dismiss", id="q")
    assert emu.block.info(path).version == 2
    assert emu.block.info(path).backing == str(tmp_path / "a")
    qcow2 = {"driver": "qcow2", "file": "n", "size": 512}
    for options in (
        {**qcow2, "file": "m"},
        {**qcow2, "driver": "luks"},
        {**qcow2, "frob": 1},
        {**qcow2, "cluster-size": 3},
        {**qcow2, "size": "large"},
    ):
        client.ask("blockdev-create", job_id="e", options=options)
        (job,) = client.ask("query-jobs")
        assert job["status"] == "concluded"
        assert job["error"]
        client.ask("job-dismiss", id="e")


def test_events_are_qemus(tmp_path):
    """A backup, a mirror that is completed, one that is given up when ready, and one before."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        for each in ("s", "b", "m", "n", "o"):
            (tmp_path / name / each).write_bytes(pattern(5, 1 << 20))

    def node(folder, name):
        file = {"driver": "file", "filename": str(folder / name)}
        return {"driver": "raw", "node-name": name, "file": file}

    def walk(client, folder):
        seen = []

        def until(wanted):
            """Until there is an event of that name, or of that status."""
            while True:
                message = client.line()
                if "event" in message:
                    data = message["data"]
                    seen.append(
                        (message["event"], {k: v for k, v in data.items() if k not in ("offset", "speed")})
                    )
                    if wanted in (message["event"], data.get("status")):
                        return

        def ask(name, **arguments):
            given = {key.replace("_", "-"): value for key, value in arguments.items()}
            client.send(json.dumps({"execute": name, "arguments": given}))

        for name in "bmno":
            client.ask(
                "blockdev-add", **{key.replace("-", "_"): value for key, value in node(folder, name).items()}
            )
        ask("blockdev-backup", job_id="j1", device="s", target="b", sync="full")
        until("null")
        ask("blockdev-mirror", job_id="j2", device="s", target="m", sync="full")
        until("BLOCK_JOB_READY")
        ask("block-job-complete", device="j2")
        until("null")
        ask("blockdev-mirror", job_id="j3", device="m", target="n", sync="full")
        until("BLOCK_JOB_READY")
        ask("block-job-cancel", device="j3")
        until("null")
        ask("blockdev-mirror", job_id="j4", device="m", target="o", sync="full", speed=4096)
        until("running")
        ask("block-job-cancel", device="j4")
        until("null")
        # QEMU pauses its jobs for a moment now and then, and says so.
        kept = []
        for each in seen:
            if each[1].get("status") not in ("paused", "standby") and each not in kept[-1:]:
                kept.append(each)
        return kept

    words = ["-blockdev", json.dumps(node(tmp_path / "theirs", "s")), "-device", "virtio-blk-device,drive=s"]
    with Qemu(tmp_path, *words) as theirs:
        wanted = walk(theirs, tmp_path / "theirs")
    image = emu.block.open(tmp_path / "ours/s", format="raw")
    with steered(tmp_path, virtio=[VirtioBlk(image)], paused=True) as machine:
        client = machine.client()
        (name,) = nodes(client)
        inventory = machine.machine.inventory
        inventory.nodes["s"] = inventory.nodes.pop(name)
        inventory.nodes["s"].name = "s"
        assert walk(client, tmp_path / "ours") == wanted
        client.close()


# -- transactions ---------------------------------------------------------------------------


def test_several_disks_are_kept_at_once_or_none_is(machine, client, tmp_path):
    first, second = nodes(client)

    def action(node, path):
        return {"type": "blockdev-snapshot-sync", "data": {"node-name": node, "snapshot-file": str(path)}}

    named = len(client.ask("query-named-block-nodes"))
    wrong = [action(first, tmp_path / "s1"), action(second, tmp_path / "nowhere/s2")]
    for actions in (wrong, [*wrong[:1], {"type": "abort", "data": {}}]):
        assert client.error("transaction", actions=actions)
        assert nodes(client) == [first, second]
        assert not (tmp_path / "s1").exists()
        assert len(client.ask("query-named-block-nodes")) == named
        for device in machine.machine.virtio:
            device.image.write(0, b"still written")

    client.ask("cont")
    client.events.clear()
    target = made(client, tmp_path / "t", "raw")
    backup = {"job-id": "j", "device": second, "target": target, "sync": "full"}
    actions = [action(first, tmp_path / "s1"), {"type": "blockdev-backup", "data": backup}]
    before = machine.machine.virtio[1].image.read(0, SIZE)
    assert client.error("transaction", actions=[*actions, {"type": "abort", "data": {}}])
    assert client.ask("query-jobs") == []
    client.ask("transaction", actions=actions)
    came(client, "BLOCK_JOB_COMPLETED")
    assert nodes(client)[0] != first
    assert machine.machine.virtio[0].image.info().backing == str((tmp_path / "a").resolve())
    assert content(tmp_path / "t", "raw") == before
    assert client.ask("query-status")["running"]
