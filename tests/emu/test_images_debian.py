"""debian-arm64 as a person meets it: a prompt, work, a reboot, a login, ssh, and a disk that stays whole."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from accel.errors import Unavailable
from emu import folders
from emu.images import store
from emu.images.catalog import find
from tests.emu.linux_guest import package
from tests.emu.terminal import Terminal
from tests.emu.test_images import at_prompt

PROMPT = b"root@debian:~# "
# Seconds; a boot takes ten on a machine that does nothing else.
PATIENCE = 300


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home: the image is in the usual cache, the guest's disk here, and so is a key for ssh."""
    try:
        store.fetch(find("debian-arm64"))
    except Unavailable as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(folders.cache()).parent))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir(mode=0o700)
    if shutil.which("ssh-keygen"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / ".ssh/id_ed25519"], check=True
        )
    return tmp_path


@pytest.fixture
def port() -> int:
    """A port of the host's that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    return number


def by_ssh(home: Path, port: int, command: str) -> str:
    """What a command in the guest prints."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"]
    return subprocess.run(
        ["ssh", "-F", "none", "-p", str(port), "-i", home / ".ssh/id_ed25519"]
        + [word for option in options for word in ("-o", option)]
        + ["root@127.0.0.1", command],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip


def whole(path: Path) -> None:
    """qemu-img finds nothing wrong with an image."""
    if shutil.which("qemu-img"):
        done = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No errors were found" in done.stdout


PACKAGE = """\
mkdir -p /tmp/made/DEBIAN /tmp/made/usr/share/made
echo 'made by the guest' > /tmp/made/usr/share/made/note
printf 'Package: made\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody\\nDescription: one file\\n' \\
    > /tmp/made/DEBIAN/control
printf '#!/bin/sh\\ntouch /var/lib/made.configured\\n' > /tmp/made/DEBIAN/postinst
chmod 755 /tmp/made/DEBIAN/postinst
dpkg-deb --build /tmp/made /tmp/made.deb
dpkg -i /tmp/made.deb
"""
# Files that are written, and one of three deleted again: what apt does to a disk.
CHURN = """\
mkdir /srv/churn && cd /srv/churn
n=0
while [ $n -lt 2000 ]; do
    echo "file $n of many" > $n
    n=$((n + 1))
done
rm *0 *3 *6
find . -type f | sort | xargs sha256sum > /srv/sums
head -c 8000000 /dev/urandom > /srv/large
sha256sum /srv/large >> /srv/sums
"""


@pytest.mark.slow
def test_a_debian_with_a_disk_works_reboots_and_powers_off(home: Path, port: int) -> None:
    share = home / "share"
    share.mkdir()
    (share / "package.sh").write_text(PACKAGE)
    (share / "churn.sh").write_text(CHURN)
    net = f"user,hostfwd=tcp:127.0.0.1:{port}-:22"
    terminal = Terminal("debian-arm64", "--net", net, "--share", str(share))
    disk = home / "data/emu/guests/debian-arm64/disk.qcow2"
    try:
        assert str(disk).encode() in terminal.wait_for(b"\n")
        terminal.wait_for(PROMPT, PATIENCE)
        # The system is what Debian's tools say it should be.
        (count,) = at_prompt(terminal, "dpkg --audit; dpkg -l | grep -c ^ii; apt-get -qq check")
        assert int(count) > 100
        assert at_prompt(terminal, "uname -m; . /etc/os-release; echo $ID; hostname") == [
            "aarch64", "debian", "debian",
        ]  # fmt: skip
        assert at_prompt(terminal, "stat -c '%U:%G %a' / /etc/shadow /usr/bin/passwd /usr/bin/chage") == [
            "root:root 755", "root:shadow 640", "root:root 4755", "root:shadow 2755",
        ]  # fmt: skip
        at_prompt(terminal, "sh -e /mnt/package.sh > /dev/null && sh -e /mnt/churn.sh && sync")
        at_prompt(terminal, "echo root:secret | chpasswd; sed -i 's/--autologin root //' /etc/inittab")
        terminal.type(b"reboot\r")
        # The machine starts anew; now somebody has to say who they are.
        terminal.wait_for(b"INIT: version", PATIENCE)
        terminal.wait_for(b"debian login: ", PATIENCE)
        terminal.type(b"root\r")
        terminal.wait_for(b"Password: ", PATIENCE)
        terminal.type(b"secret\r")
        terminal.wait_for(PROMPT, PATIENCE)
        assert at_prompt(terminal, "cd /srv/churn; ls | wc -l; sha256sum --quiet -c ../sums") == ["1400"]
        assert at_prompt(terminal, "cat /usr/share/made/note; ls /var/lib/made.configured") == [
            "made by the guest", "/var/lib/made.configured",
        ]  # fmt: skip
        counted = at_prompt(terminal, "grep -c ' / ext4 rw' /proc/mounts; dmesg | grep -c 'EXT4-fs error'; :")
        assert counted == ["1", "0"]
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
            assert peer.recv(8) == b"SSH-2.0-"
        at_prompt(terminal, "echo from the guest > /mnt/answer")
        assert (share / "answer").read_text() == "from the guest\n"
        if shutil.which("ssh"):
            assert by_ssh(home, port, "cat /mnt/answer; id -un") == "from the guest\nroot\n"
        terminal.type(b"poweroff\r")
        assert terminal.ended(PATIENCE) == 0
    finally:
        terminal.close()
    whole(disk)
    whole(disk.with_name("base.qcow2"))


def test_a_snapshot_is_forgotten(home: Path) -> None:
    before = store.size(store.place(find("debian-arm64")))
    terminal = Terminal("debian-arm64", "--snapshot", "--append", "init=/bin/bash", "--net", "none")
    try:
        assert b"--snapshot forgets them" in terminal.wait_for(b"\n")
        terminal.wait_for(b"# ", PATIENCE)
        at_prompt(terminal, "mount -o remount,rw / && head -c 1000000 /dev/urandom > /lost && sync")
        terminal.type(b"\x01x")
        assert terminal.ended(PATIENCE) == 0
    finally:
        terminal.close()
    assert not (home / "data").exists()
    assert store.size(store.place(find("debian-arm64"))) == before
    whole(store.place(find("debian-arm64")) / store.DISK)


@pytest.mark.slow
def test_firmware_boots_the_same_disk(home: Path) -> None:
    """EDK2 starts systemd-boot from the disk's first partition, and that the kernel."""
    firmware = package("qemu-efi-aarch64") / "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
    terminal = Terminal("debian-arm64", "--snapshot", "--firmware", str(firmware))
    try:
        terminal.wait_for(PROMPT, PATIENCE)
        assert at_prompt(terminal, "cat /proc/cmdline; ls -d /sys/firmware/efi") == [
            "initrd=\\initrd console=ttyAMA0 root=LABEL=emu-debian quiet",
            "/sys/firmware/efi",
        ]
        terminal.type(b"poweroff\r")
        assert terminal.ended(PATIENCE) == 0
    finally:
        terminal.close()
