"""Debian's arm64 kernel drives the virtio devices: what its own drivers say is right."""

from __future__ import annotations

import hashlib
import os
import re

import pytest

import emu.block
from emu import Machine
from emu.virtio.blk import VirtioBlk
from emu.virtio.p9 import VirtioP9
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd

# Seconds for a guest to boot, do its work and switch itself off; it takes about ten.
PATIENCE = 300


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
mount -t 9p -o trans=virtio,version=9p2000.L share /tmp || echo unmounted
cat /tmp/hello; sha256sum /tmp/rnd | cut -c1-64
cat /tmp/away 2>/dev/null || echo not there
mkdir -p /tmp/d/e; echo from the guest > /tmp/new; mv /tmp/new /tmp/d/moved; ln /tmp/d/moved /tmp/d/hard
chmod 4755 /tmp/d/hard; stat -c '%a %h %s' /tmp/d/hard; ln -s moved /tmp/d/soft; cat /tmp/d/soft
mknod /tmp/null c 1 3 2>/dev/null || echo no devices
mkfifo /tmp/fifo; (echo through > /tmp/fifo &); cat /tmp/fifo
truncate -s 5 /tmp/hello; rmdir /tmp/d/e; rm /tmp/fifo; ls -1 /tmp/d
"""
    modules = ("netfs", "fscache", "9pnet", "9pnet_virtio", "9p")
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
mount -t 9p -o trans=virtio,version=9p2000.L docs /tmp
(echo changed > /tmp/kept) 2>/dev/null || echo refused
rm -f /tmp/kept 2>/dev/null || echo refused
mkdir /tmp/more 2>/dev/null || echo refused
cat /tmp/kept; echo
"""
    modules = ("netfs", "fscache", "9pnet", "9pnet_virtio", "9p")
    text = guest(script, modules, [VirtioP9(tmp_path, tag="docs", read_only=True)])
    assert text.split("\n")[:-1] == ["refused", "refused", "refused", "as it was"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
