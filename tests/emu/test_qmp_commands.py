"""QMP's commands by group; QEMU's replies to the same are the measure."""

import array
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import emu.block
from emu.monitor.command import commands
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from tests.emu.steered import steered
from tests.emu.test_qmp import Qemu

SIZE = 1 << 20


def disk(path, format="raw"):
    emu.block.create(path, SIZE, format=format)
    return VirtioBlk(emu.block.open(path, format=format))


@pytest.fixture
def machine(tmp_path):
    devices = [disk(tmp_path / "b.qcow2", "qcow2"), disk(tmp_path / "a.raw"), VirtioBalloon()]
    with steered(tmp_path, virtio=devices, paused=True) as made:
        yield made


@pytest.fixture
def client(machine):
    made = machine.client()
    yield made
    made.close()


@pytest.fixture(scope="module")
def qemus(tmp_path_factory):
    """What QEMU answers on a like machine: a function of a command and its arguments."""
    folder = tmp_path_factory.mktemp("qemu")
    emu.block.create(folder / "a.raw", SIZE, format="raw")
    emu.block.create(folder / "b.qcow2", SIZE, format="qcow2")
    node = {"driver": "raw", "node-name": "a", "file": {"driver": "file", "filename": str(folder / "a.raw")}}
    options = ["-blockdev", json.dumps(node), "-device", "virtio-blk-device,drive=a"]
    options += ["-drive", f"if=none,id=b,file={folder / 'b.qcow2'},format=qcow2"]
    options += ["-device", "virtio-blk-device,drive=b,id=disk", "-device", "virtio-balloon-device,id=balloon"]
    options += ["-device", "virtio-net-device,netdev=n,id=card", "-netdev", "user,id=n", "-serial", "null"]
    with Qemu(folder, *options) as theirs:
        yield theirs
        theirs.close()


def shape(value):
    """A reply's members and types, whatever the values; of a list its first entry's."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def missing(ours, theirs, optional=()):
    """Paths that their shape has and ours has not, or of another type."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = []
        for key, each in theirs.items():
            if key not in ours:
                found += [] if key in optional else [key]
            else:
                found += [f"{key}.{at}" for at in missing(ours[key], each, optional)]
        return found
    if isinstance(theirs, list) and isinstance(ours, list):
        return [f"[].{at}" for at in missing(ours[0], theirs[0], optional)] if ours and theirs else []
    return [] if ours == theirs else [f": {ours} for {theirs}"]


# What of QEMU's replies has nothing to tell here.
ELSEWHERE = ("description", "driver-specific", "alias", "default-ram-id", "default-cpu-type")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("query-status", {}),
        ("query-version", {}),
        ("query-kvm", {}),
        ("query-target", {}),
        ("query-name", {}),
        ("query-uuid", {}),
        ("query-balloon", {}),
        ("query-memory-size-summary", {}),
        ("query-memory-devices", {}),
        ("query-cpus-fast", {}),
        ("query-cpu-definitions", {}),
        ("query-block", {}),
        ("query-named-block-nodes", {}),
        ("query-named-block-nodes", {"flat": True}),
        ("query-blockstats", {}),
        ("query-blockstats", {"query_nodes": True}),
        ("query-block-jobs", {}),
        ("query-jobs", {}),
        ("query-chardev", {}),
        ("query-chardev-backends", {}),
        ("query-iothreads", {}),
        ("query-machines", {}),
        ("query-migrate", {}),
        ("query-migrate-capabilities", {}),
        ("query-dump", {}),
        ("query-dump-guest-memory-capability", {}),
        ("query-command-line-options", {}),
        ("query-gic-capabilities", {}),
        ("query-vnc", {}),
        ("query-dirty-rate", {}),
        ("query-stats", {"target": "vcpu"}),
        ("query-commands", {}),
        ("qom-list", {"path": "/machine"}),
        ("qom-list", {"path": "/machine/peripheral"}),
        ("qom-list", {"path": "/machine/unattached/device[0]"}),
        ("qom-list-types", {}),
        ("qom-list-properties", {"typename": "container"}),
        ("device-list-properties", {"typename": "virtio-balloon-device"}),
    ],
)
def test_replies_have_what_qemus_have(client, qemus, name, arguments):
    ours, theirs = client.ask(name, **arguments), qemus.ask(name, **arguments)
    assert type(ours) is type(theirs)
    assert missing(shape(ours), shape(theirs), ELSEWHERE) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("balloon", {}),
        ("balloon", {"value": 0}),
        ("balloon", {"value": "1"}),
        ("qom-list", {"path": "/nothing"}),
        ("qom-list", {"path": "nothing"}),
        ("qom-get", {"path": "/nothing", "property": "type"}),
        ("qom-set", {"path": "/machine/peripheral", "property": "type", "value": 1}),
        ("qom-list-properties", {"typename": "nothing"}),
        ("device-list-properties", {"typename": "nothing"}),
        ("device_del", {"id": "nothing"}),
        ("device_add", {"driver": "nothing"}),
        ("set_link", {"name": "nothing", "up": True}),
        ("block_resize", {"device": "nothing", "size": 512}),
        ("block_resize", {"device": "disk", "size": -1}),
        ("eject", {"device": "nothing", "force": 1}),
        ("blockdev-del", {"node_name": "nothing"}),
        ("blockdev-add", {"driver": "nothing", "node_name": "x"}),
        ("chardev-remove", {"id": "nothing"}),
        ("object-del", {"id": "nothing"}),
        ("object-add", {"qom_type": "nothing", "id": "x"}),
        ("query-rx-filter", {"name": "nothing"}),
        ("query-cpu-model-expansion", {"type": "nothing", "model": {"name": "max"}}),
        ("query-cpu-model-expansion", {"type": "full", "model": {}}),
        ("query-command-line-options", {"option": "nothing"}),
        ("memsave", {"val": 0, "size": 16, "filename": "x", "cpu_index": 9}),
        ("netdev_del", {"id": "nothing"}),
        ("getfd", {"fdname": "x"}),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "nothing", "state": True}]}),
    ],
)
def test_errors_are_of_qemus_class(client, qemus, name, arguments):
    ours, theirs = client.command(name, **arguments), qemus.command(name, **arguments)
    assert ours["error"]["class"] == theirs["error"]["class"], (ours, theirs)


# -- memory -------------------------------------------------------------------------------------


def test_the_balloon_is_found_by_walking_as_libvirt_does(client):
    (name,) = [
        each["name"]
        for each in client.ask("qom-list", path="/machine/peripheral-anon")
        if each["type"] == "child<virtio-balloon-device>"
    ]
    path = f"/machine/peripheral-anon/{name}"
    assert "guest-stats-polling-interval" in [each["name"] for each in client.ask("qom-list", path=path)]
    client.ask("qom-set", path=path, property="guest-stats-polling-interval", value=2)
    assert client.ask("qom-get", path=path, property="guest-stats-polling-interval") == 2
    stats = client.ask("qom-get", path=path, property="guest-stats")
    assert stats["last-update"] == 0
    assert set(stats["stats"].values()) == {2**64 - 1}
    assert "not writable" in client.error("qom-set", path=path, property="guest-stats", value=1)
    for wrong in (-1, "1", None, 1.5, True, 1 << 70):
        client.error("qom-set", path=path, property="guest-stats-polling-interval", value=wrong)


def test_asking_the_balloon_sets_its_target(client, machine):
    client.ask("balloon", value=20 << 20)
    (entry,) = machine.machine.inventory.of_kind("virtio-balloon")
    assert entry.virtio.target == 12 << 20
    client.ask("balloon", value=1 << 50)
    assert entry.virtio.target == 0
    assert client.ask("query-balloon") == {"actual": 32 << 20}


def test_a_machine_without_balloon_says_so(tmp_path):
    with steered(tmp_path, paused=True) as machine:
        client = machine.client()
        assert client.command("query-balloon")["error"]["class"] == "DeviceNotActive"
        client.close()


def test_memory_is_saved_as_it_is(client, machine, tmp_path):
    ram = machine.machine.board.ram_base
    data = os.urandom(3 << 20)
    machine.machine.memory.load(ram + (1 << 20) + 5, data)
    path = tmp_path / "saved"
    client.ask("pmemsave", val=ram + (1 << 20) + 5, size=len(data), filename=str(path))
    assert path.read_bytes() == data
    assert "no memory at" in client.error("pmemsave", val=1 << 40, size=16, filename=str(tmp_path / "no"))
    assert not (tmp_path / "no").exists()
    for wrong in (1 << 64) - 1, (1 << 48) - 1:
        client.error("pmemsave", val=wrong, size=(1 << 64) - 1, filename=str(tmp_path / "no"))
    assert "No such file" in client.error("pmemsave", val=ram, size=1, filename="/nonexistent/x")


# -- CPUs and objects -------------------------------------------------------------------------------


def test_vcpus_have_threads_before_they_run(client):
    (cpu,) = client.ask("query-cpus-fast")
    assert cpu["thread-id"] != os.getpid()
    assert os.path.exists(f"/proc/self/task/{cpu['thread-id']}")  # noqa: PTH110
    assert client.ask("qom-get", path=cpu["qom-path"], property="realized") is True


def test_every_path_of_the_tree_can_be_listed_and_read(client):
    def walk(path):
        for each in client.ask("qom-list", path=path):
            if each["type"].startswith("child<"):
                walk(f"{path.rstrip('/')}/{each['name']}")
            else:
                client.ask("qom-get", path=path, property=each["name"])

    walk("/")


def test_every_type_of_device_tells_its_properties(client):
    for each in client.ask("qom-list-types", implements="device"):
        client.ask("device-list-properties", typename=each["name"])
        client.ask("qom-list-properties", typename=each["name"])


def test_secrets_are_kept_and_forgotten(client):
    client.ask("object-add", qom_type="secret", id="s", data="x")
    assert {"name": "s", "type": "child<secret>"} in client.ask("qom-list", path="/objects")
    client.error("object-add", qom_type="secret", id="s", data="x")
    client.ask("object-del", id="s")
    assert client.error("object-del", id="s")


# -- disks ------------------------------------------------------------------------------------------


def test_disks_are_told_with_their_images(client, tmp_path):
    qcow2, raw = client.ask("query-block")
    assert raw["inserted"]["image"]["virtual-size"] == SIZE
    assert (raw["inserted"]["drv"], qcow2["inserted"]["drv"]) == ("raw", "qcow2")
    info = json.loads(
        subprocess.run(
            ["qemu-img", "info", "-U", "--output=json", str(tmp_path / "b.qcow2")],
            capture_output=True,
            check=True,
        ).stdout
    )
    image = qcow2["inserted"]["image"]
    for key in ("virtual-size", "cluster-size", "format", "actual-size", "dirty-flag"):
        assert image[key] == info[key], key


def test_a_disk_grows_while_it_is_used(client, machine, tmp_path):
    name = client.ask("query-block")[0]["inserted"]["node-name"]
    client.ask("block_resize", node_name=name, size=2 * SIZE)
    assert client.ask("query-block")[0]["inserted"]["image"]["virtual-size"] == 2 * SIZE


@pytest.mark.parametrize("number", [0, 1])
def test_a_snapshot_keeps_the_disk_as_it_was(client, machine, tmp_path, number):
    """Writes after it are in the new image, and qemu-img finds both in order."""
    entries = list(machine.machine.inventory.of_kind("virtio-blk"))
    entries[number].virtio.image.write(0, b"before")
    node = client.ask("query-block")[number]["inserted"]["node-name"]
    below, over = tmp_path / ("b.qcow2", "a.raw")[number], tmp_path / "over.qcow2"
    client.ask("blockdev-snapshot-sync", node_name=node, snapshot_file=str(over), snapshot_node_name="over")
    image = entries[number].virtio.image
    assert image.read(0, 6) == b"before"
    image.write(0, b"after!")
    image.flush()
    inserted = client.ask("query-block")[number]["inserted"]
    assert (inserted["node-name"], inserted["drv"], inserted["backing_file"]) == ("over", "qcow2", str(below))
    assert inserted["image"]["backing-image"]["filename"] == str(below)
    with emu.block.open(below, read_only=True, lock=False) as kept:
        assert kept.read(0, 6) == b"before"
    subprocess.run(["qemu-img", "check", "-q", "-U", str(over)], check=True)
    # Once more, on top of that.
    client.ask("blockdev-snapshot-sync", node_name="over", snapshot_file=str(tmp_path / "third.qcow2"))
    assert entries[number].virtio.image.read(0, 6) == b"after!"
    assert client.ask("query-block")[number]["inserted"]["backing_file_depth"] == 2


def test_a_snapshot_that_cannot_be_made_leaves_the_disk(client, machine, tmp_path):
    entries = list(machine.machine.inventory.of_kind("virtio-blk"))
    node = client.ask("query-block")[0]["inserted"]["node-name"]
    (tmp_path / "small.qcow2").unlink(missing_ok=True)
    emu.block.create(tmp_path / "small.qcow2", 512 << 10)
    for path, mode in (
        (tmp_path / "a.raw", "absolute-paths"),
        (tmp_path / "no" / "x", "absolute-paths"),
        (tmp_path / "small.qcow2", "existing"),
        (tmp_path / "none", "existing"),
    ):
        assert client.error("blockdev-snapshot-sync", node_name=node, snapshot_file=str(path), mode=mode)
    entries[0].virtio.image.write(0, b"still")
    assert client.ask("query-block")[0]["inserted"]["node-name"] == node


@pytest.mark.parametrize("whole", [True, False])
def test_an_image_is_put_on_top_as_libvirt_does(client, machine, tmp_path, whole):
    """It is added without what it stands on, which a disk still uses, and then put there."""
    (entry, *_) = machine.machine.inventory.of_kind("virtio-blk")
    entry.virtio.image.write(0, b"before")
    node = client.ask("query-block")[0]["inserted"]["node-name"]
    over = tmp_path / "over.qcow2"
    words = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", str(tmp_path / "b.qcow2")]
    subprocess.run([*words, str(over), str(SIZE)], check=True)
    client.ask("blockdev-add", driver="file", node_name="over-file", filename=str(over))
    client.ask("blockdev-add", driver="qcow2", node_name="over", file="over-file", backing=None)
    assert client.error("blockdev-snapshot", node=node, overlay="nothing")
    assert client.error("blockdev-snapshot", node="over", overlay=node)
    action = {"type": "blockdev-snapshot", "data": {"node": node, "overlay": "over"}}
    if whole:
        client.ask("transaction", actions=[action])
    else:
        client.ask("blockdev-snapshot", node=node, overlay="over")
    assert client.ask("query-block")[0]["inserted"]["node-name"] == "over"
    assert entry.virtio.image.read(0, 6) == b"before"
    entry.virtio.image.write(0, b"after!")
    assert client.error("transaction", actions=[action])
    assert client.error("transaction", actions=[action, action])
    assert "in use" in client.error("blockdev-del", node_name=node)
    assert "in use" in client.error("blockdev-del", node_name="over")
    with emu.block.open(tmp_path / "b.qcow2", read_only=True, lock=False) as kept:
        assert kept.read(0, 6) == b"before"


def test_nodes_are_added_and_removed(client, machine, tmp_path):
    node = client.ask("query-block")[0]["inserted"]["node-name"]
    other = tmp_path / "d.raw"
    emu.block.create(other, SIZE, format="raw")
    file = {"driver": "file", "filename": str(other)}
    client.send(
        json.dumps(
            {"execute": "blockdev-add", "arguments": {"driver": "raw", "node-name": "d", "file": file}}
        )
    )
    assert client.reply() == {"return": {}}
    assert "d" in [each["node-name"] for each in client.ask("query-named-block-nodes", flat=True)]
    client.ask("blockdev-del", node_name="d")
    assert "in use" in client.error("blockdev-del", node_name=node)
    assert "not removable" in client.error("eject", id="/machine/peripheral-anon/device[0]")
    for wrong in (
        {"driver": "raw", "node-name": "e"},
        {"driver": "raw", "node-name": "e", "file": "nothing"},
        {"driver": "raw", "node-name": "e", "file": {"driver": "file"}},
        {"driver": "raw", "node-name": "e", "file": {"driver": "raw", "file": {}}},
        {"driver": "qcow2", "node-name": "e", "file": file},
        {"driver": "raw", "node-name": node, "file": file},
        {"driver": "raw", "node-name": "e", "file": file, "unknown": 1},
        {"driver": "file", "node-name": "e", "filename": 1},
        {"driver": "raw", "node-name": "e", "file": file, "cache": 1},
        {"driver": "raw", "node-name": 1, "file": file},
    ):
        client.send(json.dumps({"execute": "blockdev-add", "arguments": wrong}))
        assert "error" in client.reply(), wrong
    assert "e" not in [each["node-name"] for each in client.ask("query-named-block-nodes")]


# -- the rest ---------------------------------------------------------------------------------------


def test_an_end_is_added_and_removed(client):
    pty = client.ask("chardev-add", id="x", backend={"type": "pty"})["pty"]
    assert os.path.exists(pty)  # noqa: PTH110
    assert "x" in [each["label"] for each in client.ask("query-chardev")]
    assert client.error("chardev-add", id="x", backend={"type": "null"})
    client.ask("chardev-remove", id="x")
    assert client.error("chardev-add", id="y", backend={"type": "stdio"})


def test_a_socket_is_made_or_taken_over_as_a_hosts_end(client, tmp_path):
    def add(name, address, **more):
        backend = {"type": "socket", "data": {"addr": address, **more}}
        return client.command("chardev-add", id=name, backend=backend)

    listens = {"type": "unix", "data": {"path": str(tmp_path / "listens")}}
    assert add("a", listens, wait=False) == {"return": {}}
    assert add("b", listens, server=False) == {"return": {}}  # they are connected with each other
    here, there = socket.socketpair()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [there.fileno()]))]
    client.socket.sendmsg([b'{"execute":"getfd","arguments":{"fdname":"s"}}'], rights)
    client.reply()
    there.close()
    given = {"type": "fd", "data": {"str": "s"}}
    assert add("c", given) == {"return": {}}
    for address, more, says in (
        (given, {}, "named 's' has not been found"),
        (None, {}, "expects a socket's address"),
        ({"type": "unix", "data": []}, {}, "expects a socket's address"),
        ({"type": "unix", "data": {"path": 5}}, {}, "unix with path"),
        ({"type": "vsock", "data": {"cid": "1", "port": "1"}}, {}, "unix with path"),
        ({"type": "inet", "data": {"host": "", "port": "x"}}, {}, "no address"),
        (listens, {"server": "yes"}, "true or false"),
    ):
        assert says in add("d", address, **more)["error"]["desc"], address
    names = {each["label"] for each in client.ask("query-chardev")}
    assert names >= {"a", "b", "c"}
    assert "d" not in names
    for name in ("a", "b", "c"):
        client.ask("chardev-remove", id=name)
    assert here.recv(1) == b""
    here.close()


# Of every kind, as people type them into qmp-shell.
TYPED = """query-version
query-status
query-name
query-uuid
query-kvm
query-target
query-commands
query-events
query-machines
query-cpus-fast
query-hotpluggable-cpus
query-cpu-definitions
query-memory-size-summary
query-balloon
balloon value=20971520
query-block
query-blockstats
query-named-block-nodes flat=true
query-jobs
query-chardev
query-rx-filter
query-iothreads
query-migrate
query-migrate-capabilities
query-gic-capabilities
query-tpm-models
qom-list path=/machine
qom-get path=/machine/peripheral-anon/device[2] property=guest-stats
qom-list-types implements=device
device-list-properties typename=virtio-balloon-device
human-monitor-command command-line=help
cont
stop
system_reset
"""


def test_qmp_shell_types_commands_of_every_kind(machine):
    shell = Path(sys.executable).with_name("qmp-shell")
    if not shell.exists():
        pytest.skip("qmp-shell of qemu.qmp (PyPI) is not installed")
    done = subprocess.run(
        [shell, str(machine.path)], input=TYPED, capture_output=True, text=True, timeout=60, check=False
    )
    answered = done.stdout.count('"return"') + done.stdout.count("'return'")
    assert answered == len(TYPED.splitlines()), done.stdout
    assert "Connected to QEMU 7.2.0" in done.stdout


def test_every_command_does_something_or_says_why_not(client):
    """Without arguments: nothing fails inside emu."""
    for name in commands():
        if name in ("quit", "stop", "cont", "system_reset"):
            continue
        answer = client.command(name)
        assert "failed inside" not in json.dumps(answer), answer
