"""Debian's arm64 kernel in a machine that is steered: what it says of itself is what monitors tell."""

from __future__ import annotations

import re
import time

import pytest

import emu.block
from emu.backends.chardev import MemoryChardev
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from emu.virtio.console import Port, VirtioConsole
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.steered import steered

MODULES = ("virtio_mmio", "virtio_balloon", "virtio_blk", "virtio_console", "gpio_keys", "evdev")
BALLOON = "/machine/peripheral-anon/device[1]"
SCRIPT = """
exec 3< /dev/input/event0
for port in /dev/vport*p1; do exec 4<> $port; done
exec 4<&-
echo A; cat /proc/meminfo; echo READY; read word
echo B; cat /proc/meminfo; read word
dd if=/dev/vda of=/dev/null bs=64k count=16 2> /dev/null
dd if=/dev/zero of=/dev/vda bs=4k count=3 conv=fsync 2> /dev/null
echo WRITTEN; read word
echo C; cat /proc/meminfo; head -c 24 <&3 | od -t x2; echo PRESSED
"""


@pytest.fixture(scope="module")
def linux(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linux")
    emu.block.create(folder / "disk", 8 << 20, format="qcow2")
    screen = Screen()
    options = {"kernel": image(), "initrd": initrd(SCRIPT, MODULES), "append": "console=ttyAMA0 quiet"}
    disk = VirtioBlk(emu.block.open(folder / "disk"))
    channel = VirtioConsole([Port(MemoryChardev(), name="org.example.channel")])
    devices = [disk, VirtioBalloon(), channel]
    with steered(folder, ram=256 << 20, serial=screen, virtio=devices, paused=True, **options) as machine:
        machine.screen = screen
        machine.folder = folder
        machine.guest = Guest(machine)
        yield machine


class Guest:
    """What the guest has printed, and its keyboard."""

    def __init__(self, machine):
        self.machine = machine

    def wait(self, word):
        end = time.monotonic() + 300
        while word not in self.machine.screen.text:
            assert time.monotonic() < end, (word, self.machine.screen.text[-2000:])
            time.sleep(0.02)

    def answer(self):
        self.machine.machine.loop.call(lambda: self.machine.screen.type(b"\r"))

    def memory(self, letter):
        """MemTotal, and so on, in bytes, as printed behind a letter."""
        text = re.split(rf"^{letter}$", self.machine.screen.text, flags=re.MULTILINE)[1]
        found = re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)[:5]
        return {name: int(size) << 10 for name, size in found}


def test_a_guest_is_looked_at_squeezed_and_switched_off(linux):
    guest, client = linux.guest, linux.client()
    client.ask("cont")

    # A channel, as the guest opens and closes it.
    for opened in (True, False):
        assert client.event("VSERPORT_CHANGE") == {"id": "org.example.channel", "open": opened}
    guest.wait("READY")

    # Statistics: as the guest's own /proc/meminfo, and dated.
    began = time.time()
    client.ask("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=1)

    def stats():
        return client.ask("qom-get", path=BALLOON, property="guest-stats")

    linux.wait(lambda: stats()["last-update"] >= int(began), "statistics")
    told, own = stats()["stats"], guest.memory("A")
    assert told["stat-total-memory"] == own["MemTotal"]
    for name, theirs in (("stat-free-memory", "MemFree"), ("stat-available-memory", "MemAvailable")):
        assert abs(told[name] - own[theirs]) < 8 << 20, name
    client.ask("qom-set", path=BALLOON, property="guest-stats-polling-interval", value=0)

    # Memory of the kernel's: the CPU's translation and the table's are one.
    client.ask("stop")
    vcpu = linux.machine.cpus[0].vcpu
    shown = [line.split() for line in client.human("info mem").splitlines()]
    assert len(shown) > 10
    for span, _, _ in shown:
        start, end = (int(word, 16) for word in span.split("-"))
        assert vcpu.translate(start) is not None, span
        assert vcpu.translate(end - 1) is not None, span
    (version,) = re.findall(r"Linux version \S+", bytes(image()).decode("latin-1"))[:1]
    saved = linux.folder / "ram"
    client.ask("pmemsave", val=linux.machine.board.ram_base, size=256 << 20, filename=str(saved))
    assert version.encode() in saved.read_bytes()
    text = next(int(span.split("-")[0], 16) for span, _, rights in shown if span.startswith("ffff"))
    client.ask("memsave", val=text, size=8192, filename=str(linux.folder / "text"))
    at = vcpu.translate(text) - linux.machine.board.ram_base
    assert (linux.folder / "text").read_bytes()[:4096] == saved.read_bytes()[at : at + 4096]
    client.ask("cont")

    # The balloon: the guest has less, so has the host.
    client.events.clear()
    client.ask("balloon", value=160 << 20)
    linux.wait(lambda: client.ask("query-balloon")["actual"] == 160 << 20, "the balloon is full")
    client.event("BALLOON_CHANGE")
    guest.answer()
    guest.wait("\nB\n")
    linux.wait(lambda: len(guest.memory("B")) == 5, "all is printed")
    assert guest.memory("A")["MemAvailable"] - guest.memory("B")["MemAvailable"] > 80 << 20

    # The disk's counts: what the guest has read and written.
    before = client.ask("query-blockstats")[0]["stats"]
    guest.answer()
    guest.wait("WRITTEN")
    after = client.ask("query-blockstats")[0]["stats"]
    assert after["rd_bytes"] - before["rd_bytes"] >= 1 << 20
    assert after["wr_bytes"] - before["wr_bytes"] == 3 * 4096
    assert after["flush_operations"] > before["flush_operations"]
    assert after["wr_highest_offset"] == 3 * 4096

    client.ask("balloon", value=256 << 20)
    linux.wait(lambda: client.ask("query-balloon")["actual"] == 256 << 20, "the balloon is empty")
    guest.answer()
    guest.wait("\nC\n")
    linux.wait(lambda: len(guest.memory("C")) == 5, "all is printed")
    assert guest.memory("C")["MemAvailable"] - guest.memory("B")["MemAvailable"] > 80 << 20

    # The power button.
    client.ask("system_powerdown")
    assert client.events[-1] == "POWERDOWN"
    assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
    assert "PRESSED" in linux.screen.text
    client.close()
