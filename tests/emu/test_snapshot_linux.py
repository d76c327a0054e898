"""Linux is saved amid requests to its virtio devices, and they go on in another machine."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from contextlib import ExitStack
from itertools import pairwise

import pytest

import emu.block
from emu.machine import Machine
from emu.net import open_net
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from emu.virtio.net import VirtioNet
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.steered import steered

MODULES = ("virtio_mmio", "virtio_pci", "virtio_blk", "virtio_rng", "virtio_balloon")
# Writes a sector, takes random bytes, and reads the sector back, again and again.
SCRIPT = """
n=0
while :; do
    n=$((n+1))
    echo $n | dd of=/dev/vda bs=512 seek=$n conv=sync,fsync 2>/dev/null
    r=$(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c)
    echo n=$n=$(dd if=/dev/vda bs=512 skip=$n count=1 2>/dev/null | head -n 1)=$r=
done
"""


@pytest.mark.parametrize("board", ["virt", "virt,virtio=pci,gic-version=3"])
def test_requests_that_were_under_way_are_done_where_it_goes_on(board, tmp_path):
    disk = tmp_path / "disk"
    emu.block.create(disk, 64 << 20, format="raw")
    kernel, ram = image("arm64"), initrd(SCRIPT, MODULES, "arm64")

    def made(screen):
        devices = [VirtioBlk(emu.block.open(disk, format="raw")), VirtioRng(), VirtioBalloon()]
        return Machine(
            board,
            arch="aarch64",
            accel="tcg",
            ram=256 << 20,
            kernel=kernel,
            initrd=ram,
            append="console=ttyAMA0 quiet",
            serial=screen,
            virtio=devices,
        )

    first, second = Screen(), Screen()
    with made(first) as machine:
        assert machine.run(timeout=200, until=lambda: "n=5=" in first.text).reason == "until", first.text
        machine.start()
        time.sleep(0.05)
        machine.save(tmp_path / "saved")
        machine.pause()
    with made(second) as machine:
        machine.load(tmp_path / "saved")
        result = machine.run(timeout=200, until=lambda: second.text.count("\nn=") > 20)
        assert result.reason == "until", second.text
    lines = [line.split("=") for line in second.text.split("\n")[1:-1]]
    assert all(line[1] == line[2] and line[3] == "16" for line in lines), second.text
    numbers = [int(line[1]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


# An echo at port 7, the connections that the guest knows of at port 8, and a computation: a chain of hashes.
SERVER = """
nc -ll -p 7 -e cat &
nc -ll -p 8 -e netstat -tn &
n=0; sum=0
while :; do
    n=$((n+1)); sum=$(echo $n $sum | sha256sum | cut -c1-16)
    echo n=$n=$sum=
done
"""
ROUND = re.compile(r"n=(\d+)=([0-9a-f]{16})=\n")


def free_ports(count):
    with ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def card(ports):
    forwards = (f"hostfwd=tcp:127.0.0.1:{port}-:{7 + number}" for number, port in enumerate(ports))
    end = open_net(f"user,{','.join(forwards)}")
    assert end is not None
    return VirtioNet(*end)


def echoed(end, word):
    """What comes back for a word; b"" where the connection has ended."""
    try:
        end.sendall(word)
        return end.recv(100)
    except ConnectionError:
        return b""


def connected(port):
    end = socket.create_connection(("127.0.0.1", port), timeout=60)
    assert echoed(end, b"here") == b"here"
    return end


def known(port):
    """The addresses of echo's clients, as the guest knows them."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as end, end.makefile() as lines:
        return re.findall(r"10\.0\.2\.15:7 +(\S+) +ESTABLISHED", lines.read())


def following(rounds):
    """Whether each round is what comes of the one before; computed here, too."""
    for (number, before), (after, total) in pairwise(rounds):
        text = f"{int(number) + 1} {before}\n".encode()
        if int(after) != int(number) + 1 or hashlib.sha256(text).hexdigest()[:16] != total:
            return False
    return True


def test_a_computation_and_a_connection_go_on_where_they_were(tmp_path, monkeypatch):
    """savevm, and loadvm in the same process: what was idle goes on, other connections are reset."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    options = {
        "kernel": image(),
        "initrd": initrd(SERVER, ("virtio_mmio", "virtio_net")),
        "append": "console=ttyAMA0 quiet",
        "ram": 128 << 20,
    }
    screen, ports = Screen(), free_ports(2)
    echo, table = ports
    with (
        steered(tmp_path, serial=screen, virtio=[card(ports)], **options) as machine,
        ExitStack() as opened,
    ):
        client = machine.client()
        machine.wait(lambda: "n=2=" in screen.text, "the guest is up", 200)
        idle, busy = (opened.enter_context(connected(echo)) for _ in range(2))
        assert len(known(table)) == 2
        client.ask("stop")
        assert client.human("savevm then") == ""
        last = ROUND.findall(screen.text)[-1]
        client.ask("cont")
        late = opened.enter_context(connected(echo))
        assert echoed(busy, b"more") == b"more"
        machine.wait(lambda: f"n={int(last[0]) + 3}=" in screen.text, "it goes on", 60)
        client.ask("stop")
        rounds = ROUND.findall(screen.text)
        assert following(rounds)

        mark = len(screen.text)
        assert client.human("loadvm then") == ""
        client.ask("cont")
        machine.wait(lambda: len(ROUND.findall(screen.text[mark:])) > 5, "it goes on from there", 60)
        again = ROUND.findall(screen.text[mark:])
        assert int(again[0][0]) <= int(last[0]) + 2
        assert following([rounds[int(again[0][0]) - 2], *again])
        for _ in range(3):
            assert echoed(idle, b"still here") == b"still here"
        assert echoed(busy, b"lost") == b""
        assert echoed(late, b"lost") == b""
        assert len(known(table)) == 1
        client.close()

    # In another process the host's ends are gone, and the guest hears so at once.
    screen, ports = Screen(), free_ports(2)
    with steered(tmp_path, serial=screen, virtio=[card(ports)], paused=True, **options) as machine:
        client = machine.client()
        assert client.human("loadvm then") == ""
        client.ask("cont")
        assert known(ports[1]) == []
        connected(ports[0]).close()
        client.close()
