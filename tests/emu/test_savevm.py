"""savevm, loadvm, delvm and info snapshots: the machine and its disks."""

from __future__ import annotations

import pytest

import emu.block
from emu.virtio.blk import VirtioBlk
from tests.emu.steered import steered
from tests.emu.test_migrate import counted, running
from tests.emu.test_snapshot import COUNTER


@pytest.fixture(params=["raw", "qcow2"])
def with_disk(request, tmp_path):
    path = tmp_path / "disk"
    emu.block.create(path, 8 << 20, format=request.param)
    image = emu.block.open(path, format=request.param)
    image.write(1 << 20, b"before")
    with steered(tmp_path, kernel=COUNTER, virtio=[VirtioBlk(image)]) as made:
        yield made, running(made.client())


def disk(made):
    return made.machine.virtio[0].image


def test_machine_and_disk_are_what_they_were(with_disk, tmp_path):
    made, client = with_disk
    assert client.human("info snapshots") == "There is no snapshot available.\n"
    client.ask("stop")
    assert client.human("savevm one") == ""
    then = counted(client)
    assert client.ask("query-status")["status"] == "paused"
    client.ask("cont")
    client.events.clear()
    assert client.human("savevm two") == ""
    assert client.events == ["STOP", "RESUME"]
    disk(made).write(1 << 20, b"later!")
    assert "one " in client.human("info snapshots")
    client.events.clear()
    assert client.human("loadvm one") == ""
    assert client.events == ["STOP", "RESUME"]
    assert disk(made).read(1 << 20, 6) == b"before"
    client.ask("stop")
    assert client.human("loadvm one") == ""
    assert counted(client) == then
    disk(made).write(1 << 20, b"again!")
    client.ask("cont")
    assert client.human("loadvm two") == ""
    assert disk(made).read(1 << 20, 6) == b"before"
    assert client.human("delvm one") == ""
    assert "there is no snapshot one" in client.human("loadvm one")
    assert sorted(path.name for path in tmp_path.iterdir() if "disk" in path.name) == [
        "disk",
        "disk.snapshots",
    ]


def test_one_that_is_damaged_changes_neither_machine_nor_disk(with_disk, tmp_path):
    made, client = with_disk
    client.human("savevm one")
    disk(made).write(1 << 20, b"later!")
    path = tmp_path / "disk.snapshots" / "one" / "machine"
    path.write_bytes(path.read_bytes()[:-1])
    assert "cut off" in client.human("loadvm one")
    assert disk(made).read(1 << 20, 6) == b"later!"
    assert client.ask("query-status")["status"] == "running"
    disk(made).write(1 << 20, b"usable")
    for name in ("../x", ".x", "a/b"):
        assert "is no name" in client.human(f"savevm {name}")


def test_a_machine_without_disks_keeps_them_under_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with steered(tmp_path, kernel=COUNTER) as made:
        client = running(made.client())
        assert client.human("savevm one") == ""
        assert (tmp_path / "state/emu/snapshots/guest/one/machine").is_file()
        assert client.human("loadvm one") == ""
