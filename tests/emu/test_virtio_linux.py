"""Debian's arm64 kernel drives the virtio devices: what its own drivers say is right."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import re
import signal
import socket
import termios
import threading
import time
from pathlib import Path

import pytest

import emu.block
from emu import Machine
from emu.backends.chardev import MemoryChardev, open_chardev
from emu.images import busybox
from emu.net import open_net
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from emu.virtio.console import Port, VirtioConsole
from emu.virtio.net import VirtioNet
from emu.virtio.p9 import VirtioP9
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd

# Seconds for a guest to boot, do its work and switch itself off; it takes about ten.
PATIENCE = 300


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and tells nobody."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def guest(script: str, modules: tuple[str, ...], devices, *, force_legacy: bool = False, **options) -> str:
    """Boots Linux with these virtio devices, runs the script and returns what it printed after its mark."""
    screen = Screen()
    ram = initrd(f"echo BEGIN\n{script}\necho END", ("virtio_mmio", *modules))
    with Machine(
        "virt",
        arch="aarch64",
        ram=256 << 20,
        kernel=image(),
        initrd=ram,
        append="console=ttyAMA0 quiet",
        serial=screen,
        virtio=devices,
        force_legacy=force_legacy,
        **options,
    ) as machine:
        result = machine.run(timeout=PATIENCE)
    assert result.reason == "guest-shutdown", screen.text[-2000:]
    found = re.search(r"^BEGIN\n(.*)^END$", screen.text, re.DOTALL | re.MULTILINE)
    assert found, screen.text[-2000:]
    return found[1]


@pytest.mark.parametrize("force_legacy", [False, True])
def test_disks_and_entropy(tmp_path, force_legacy):
    for name, size in (("a", 8), ("b", 1)):
        (tmp_path / name).write_bytes(os.urandom(size << 20))
    disks = [
        VirtioBlk(emu.block.open(tmp_path / "a", format="raw"), serial="first"),
        VirtioBlk(emu.block.open(tmp_path / "b", format="raw", read_only=True), serial="second"),
    ]
    before = (tmp_path / "a").read_bytes()
    script = """
cat /sys/block/vda/serial; echo; cat /sys/block/vda/size /sys/block/vdb/ro /sys/block/vda/queue/write_cache
sha256sum /dev/vda /dev/vdb
dd if=/dev/vda of=/tmp/part bs=64k skip=3 count=20 2>/dev/null
dd if=/tmp/part of=/dev/vda bs=4k seek=1024 conv=notrunc,fsync 2>/dev/null
dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null && echo written
cat /sys/class/misc/hw_random/rng_current
dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c
"""
    text = guest(script, ("virtio_blk", "virtio-rng"), [*disks, VirtioRng()], force_legacy=force_legacy)
    part = before[3 << 16 : 23 << 16]
    assert text.split("\n")[:-1] == [
        "first",
        str(8 << 11),
        "1",
        "write back",
        f"{hashlib.sha256(before).hexdigest()}  /dev/vda",
        f"{hashlib.sha256((tmp_path / 'b').read_bytes()).hexdigest()}  /dev/vdb",
        "virtio_rng.0",
        "256",
    ]
    assert (tmp_path / "a").read_bytes() == before[: 4 << 20] + part + before[(4 << 20) + len(part) :]


def test_a_shared_folder(tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    (tmp_path / "secret").write_text("outside\n")
    (share / "hello").write_text("from the host\n")
    (share / "away").symlink_to("../secret")
    (share / "rnd").write_bytes(os.urandom(3 << 20))
    script = """
cat /mnt/hello; sha256sum /mnt/rnd | cut -c1-64
cat /mnt/away 2>/dev/null || echo not there
mkdir -p /mnt/d/e; echo from the guest > /mnt/new; mv /mnt/new /mnt/d/moved; ln /mnt/d/moved /mnt/d/hard
chmod 4755 /mnt/d/hard; stat -c '%a %h %s' /mnt/d/hard; ln -s moved /mnt/d/soft; cat /mnt/d/soft
mknod /mnt/null c 1 3 2>/dev/null || echo no devices
mkfifo /mnt/fifo; (echo through > /mnt/fifo &); cat /mnt/fifo
truncate -s 5 /mnt/hello; rmdir /mnt/d/e; rm /mnt/fifo; ls -1 /mnt/d
"""
    modules = ("9pnet_virtio", "9p")
    text = guest(script, modules, [VirtioP9(share)])
    assert text.split("\n")[:-1] == [
        "from the host",
        hashlib.sha256((share / "rnd").read_bytes()).hexdigest(),
        "not there",
        "755 2 15",
        "from the guest",
        "no devices",
        "through",
        "hard",
        "moved",
        "soft",
    ]
    assert (share / "hello").read_text() == "from "
    assert (share / "d" / "hard").stat().st_mode & 0o7777 == 0o755
    assert sorted(path.name for path in share.iterdir()) == ["away", "d", "hello", "rnd"]


def test_a_shared_folder_that_is_read_only(tmp_path):
    (tmp_path / "kept").write_text("as it was")
    script = """
mount | grep -c "^docs on /mnt type 9p"
(echo changed > /mnt/kept) 2>/dev/null || echo refused
rm -f /mnt/kept 2>/dev/null || echo refused
mkdir /mnt/more 2>/dev/null || echo refused
cat /mnt/kept; echo
"""
    modules = ("9pnet_virtio", "9p")
    text = guest(script, modules, [VirtioP9(tmp_path, tag="docs", read_only=True)])
    assert text.split("\n")[:-1] == ["1", "refused", "refused", "refused", "as it was"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_network_card_by_user_networking(tmp_path):
    """DHCP, a file from the host's own server and one that the host reads out of the guest by a forward."""
    (tmp_path / "file").write_bytes(os.urandom(3 << 20))
    served = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        forwarded = probe.getsockname()[1]
    got: list[bytes] = []

    def ask() -> None:
        while not got:
            try:
                with socket.create_connection(("127.0.0.1", forwarded), timeout=5) as end:
                    words = end.recv(100)
                    if words:
                        got.append(words)
            except OSError:
                pass
            time.sleep(0.1)

    threading.Thread(target=ask, daemon=True).start()
    end = open_net(f"user,hostfwd=tcp:127.0.0.1:{forwarded}-:7")
    assert end is not None
    script = f"""
ip -4 -o address show eth0 | grep -o 'inet [0-9./]*'
wget -q -O - http://10.0.2.2:{server.server_port}/file | sha256sum | cut -c1-64
echo out of the guest | nc -l -p 7
"""
    try:
        text = guest(script, ("virtio_net",), [VirtioNet(*end)])
    finally:
        server.shutdown()
        server.server_close()
    assert text.split("\n")[:-1] == [
        "inet 10.0.2.15/24",
        hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest(),
    ]
    assert got == [b"out of the guest\n"]


def test_a_balloon_takes_memory_and_gives_it_back():
    """The guest has less by what the balloon was asked for, and as much as before afterwards."""
    balloon = VirtioBalloon()
    screen = Screen()
    script = """
free() { while read name size rest; do [ $name = MemAvailable: ] && echo $1 $size; done < /proc/meminfo; }
free before; read word; free less; read word; free after
"""
    ask = 64 << 20
    with Machine(
        "virt", arch="aarch64", ram=256 << 20, kernel=image(), append="console=ttyAMA0 quiet",
        initrd=initrd(script, ("virtio_mmio", "virtio_balloon")), serial=screen, virtio=[balloon],
    ) as machine:  # fmt: skip

        def wait(what, condition):
            done = machine.run(timeout=PATIENCE, until=condition)
            assert done.reason == "until", (what, screen.text[-2000:])

        wait("before", lambda: "before" in screen.text)
        balloon.target = ask
        _until(machine, lambda: balloon.actual == ask)
        screen.type(b"\r")
        wait("less", lambda: "less" in screen.text)
        balloon.target = 0
        _until(machine, lambda: balloon.actual == 0)
        screen.type(b"\r")
        assert machine.run(timeout=PATIENCE).reason == "guest-shutdown"
    sizes = {
        name: int(size)
        for name, size in re.findall(r"^(before|less|after) (\d+)$", screen.text, re.MULTILINE)
    }
    assert sizes["before"] - sizes["less"] > ask // 1024 // 2
    assert sizes["after"] - sizes["less"] > ask // 1024 // 2


def resident() -> int:
    """Bytes of this process that are in the host's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("by", ["balloon", "reporting"])
def test_memory_that_a_guest_has_used_goes_back_to_the_host(by):
    """The guest fills 96 MiB and frees them; this process has them until the balloon, or the guest's own
    report of free pages, takes them, and the guest's RAM is whole again behind it."""
    balloon = VirtioBalloon(free_page_reporting=by == "reporting")
    screen = Screen()
    script = """
mkdir /big; mount -t tmpfs -o size=112m big /big
echo before; read word
dd if=/dev/zero of=/big/file bs=1M count=96 2> /dev/null; echo used; read word
rm /big/file; echo 3 > /proc/sys/vm/drop_caches; echo freed; read word
dd if=/dev/zero of=/big/file bs=1M count=96 2> /dev/null; sha256sum < /big/file; echo again; read word
"""
    with Machine(
        "virt", arch="aarch64", ram=256 << 20, kernel=image(), append="console=ttyAMA0 quiet",
        initrd=initrd(script, ("virtio_mmio", "virtio_balloon")), serial=screen, virtio=[balloon],
    ) as machine:  # fmt: skip

        def wait(what, answer=True):
            done = machine.run(timeout=PATIENCE, until=lambda: f"{what}\n" in screen.text)
            assert done.reason == "until", (what, screen.text[-2000:])
            has = resident()
            if answer:
                screen.type(b"\r")
            return has

        before, used = wait("before"), wait("used")
        assert used - before > 80 << 20
        freed = wait("freed", answer=False)
        if by == "balloon":
            assert freed - before > 80 << 20  # free in the guest, and nobody has told us
            balloon.target = 128 << 20
        _until(machine, lambda: resident() - before < 24 << 20)
        assert balloon.freed > 64 << 20
        balloon.target = 0
        _until(machine, lambda: balloon.actual == 0)
        screen.type(b"\r")
        assert wait("again") - before > 80 << 20
        assert machine.run(timeout=PATIENCE).reason == "guest-shutdown"
    assert hashlib.sha256(bytes(96 << 20)).hexdigest() in screen.text


class Window(MemoryChardev):
    """A console's end in a window of some size."""

    window = (132, 43)


@pytest.mark.parametrize("bus", ["mmio", "pci"])
def test_a_console_and_a_channel(tmp_path, bus):
    """hvc0 with its window's size; a port found by its name: both ways, more than is buffered on the way."""
    shown, screen = Window(), Screen()
    path = tmp_path / "agent"
    random_bytes = os.urandom(3 << 20)
    got: list[bytes] = []

    def agent() -> None:
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(path))
            with end.makefile("rwb") as stream:
                got.append(stream.readline())
                stream.write(b"pong\n" + random_bytes)
                stream.flush()
                got.append(stream.read(len(random_bytes)))
                stream.write(b"all\n")

    script = """
exec 4<>/dev/hvc0
stty -echo <&4; stty size <&4
echo hello from hvc0 >&4; read word <&4; echo typed: $word
while [ "$(stty size <&4)" = "43 132" ]; do sleep 0.1; done; stty size <&4
for class in /sys/class/virtio-ports/*; do
    [ "$(cat $class/name 2>/dev/null)" = org.qemu.guest_agent.0 ] && port=/dev/${class##*/}
done
exec 3<>$port
echo ping >&3; read line <&3; echo agent: $line
head -c 3145728 <&3 > /tmp/got; sha256sum < /tmp/got
cat /tmp/got >&3; read line <&3; echo agent: $line
"""
    ports = [
        Port(open_chardev(f"unix:{path},server"), name="org.qemu.guest_agent.0"),
        Port(shown, console=True),
    ]
    host = threading.Thread(target=agent, daemon=True)
    host.start()
    modules = ("virtio_mmio", "virtio_pci", "virtio_console")
    with Machine(
        f"virt,virtio={bus}", arch="aarch64", ram=256 << 20, kernel=image(), serial=screen,
        append="console=ttyAMA0 quiet", initrd=initrd(script, modules), virtio=[VirtioConsole(ports)],
    ) as machine:  # fmt: skip
        done = machine.run(timeout=PATIENCE, until=lambda: "hello from hvc0" in shown.text)
        assert done.reason == "until", screen.text[-2000:]
        shown.window = (99, 33)
        shown.changed()
        shown.type("a word\n")
        assert machine.run(timeout=PATIENCE).reason == "guest-shutdown", screen.text[-2000:]
    host.join(30)
    lines = screen.text.splitlines()
    assert [line for line in lines if line and not line.startswith("[")] == [
        "43 132",
        "typed: a word",
        "33 99",
        "agent: pong",
        f"{hashlib.sha256(random_bytes).hexdigest()}  -",
        "agent: all",
    ]
    assert got == [b"ping\n", random_bytes]


def test_a_shell_on_hvc0_in_the_terminal(terminal, tmp_path):
    kernel, ram = tmp_path / "kernel", tmp_path / "initrd"
    kernel.write_bytes(image())
    ram.write_bytes(busybox.initrd(modules=("virtio_mmio", "virtio_console")))
    shell = terminal(
        *("--kernel", kernel, "--initrd", ram, "--append", "console=hvc0 quiet", "-m", "256"),
        *("--console", "stdio", "--channel", "org.example.port=null"),
    )
    shell.wait_for(b"# ", PATIENCE)
    for size in ((24, 80), (50, 132)):
        termios.tcsetwinsize(shell.slave, size)
        shell.process.send_signal(signal.SIGWINCH)
        shell.type(b'while [ "$(stty size)" != "%d %d" ]; do sleep 0.1; done; echo is$((1))\r' % size)
        shell.wait_for(b"is1")
    shell.type(b"cat /sys/class/virtio-ports/*/name; poweroff -f\r")
    shell.wait_for(b"\norg.example.port\r")
    assert shell.ended(PATIENCE) == 0


def _until(machine, condition) -> None:
    """Runs the machine until a condition that no event of its own tells of."""
    for _ in range(PATIENCE * 10):
        if condition():
            return
        machine.run(timeout=0.1)
    raise AssertionError("it never came")
