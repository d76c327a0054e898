"""A libvirtd of the test's own: folders, sockets and emulators that nobody else has."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.emu.system import program

# libvirtd of root keeps its files at fixed places: in a mount namespace they are the test's.  It wants a user
# libvirt-qemu to be known.
SETUP = """
set -e
cd /
for name in run lib log cache etc; do mkdir -p "$0/$name"; done
grep -v '^libvirt-qemu:' /etc/passwd > "$0/passwd"
grep -v '^libvirt-qemu:' /etc/group > "$0/group"
echo libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin >> "$0/passwd"
echo libvirt-qemu:x:64055: >> "$0/group"
mkdir -p /run/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt
mount --bind "$0/passwd" /etc/passwd
mount --bind "$0/group" /etc/group
mount --bind "$0/run" /run/libvirt
mount --bind "$0/lib" /var/lib/libvirt
mount --bind "$0/log" /var/log/libvirt
mount --bind "$0/cache" /var/cache/libvirt
mount --bind "$0/etc" /etc/libvirt
PATH="$0/bin:/usr/sbin:/sbin" exec "$@"
"""
QEMU_CONF = """
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
user = "root"
group = "root"
"""
LIBVIRTD_CONF = 'auth_unix_rw = "none"\n'


class Libvirtd:
    """folder: of everything it keeps."""

    def __init__(self, folder):
        self.folder = Path(folder)
        for name in ("etc", "bin", "run"):
            (self.folder / name).mkdir()
        (self.folder / "etc/qemu.conf").write_text(QEMU_CONF)
        (self.folder / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF)
        # virt-install wants libvirt to have found an emulator for the architecture by itself.
        (self.folder / "bin/qemu-system-aarch64").symlink_to(program())
        self.socket = self.folder / "run/libvirt-sock"
        self.process = None
        self.start()

    @staticmethod
    def missing():
        """Why there can be none here; "" if there can."""
        for name, package in (("libvirtd", "libvirt-daemon"), ("virsh", "libvirt-clients")):
            if shutil.which(name, path="/usr/sbin:/usr/bin") is None:
                return f"{name} is not installed (apt-get install {package} libvirt-daemon-driver-qemu)"
        if os.getuid() != 0:
            return "libvirtd's own folders need root: a mount namespace"
        made = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
        return "" if made.returncode == 0 else "this sandbox has no mount namespaces"

    def start(self):
        """Starts it, and waits until it answers."""
        log = (self.folder / "libvirtd.out").open("ab")
        pid = self.folder / "libvirtd.pid"
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SETUP, str(self.folder), "libvirtd", "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        end = time.monotonic() + 60
        while self.virsh("uri", check=False).returncode:
            assert self.process.poll() is None, (self.folder / "libvirtd.out").read_text()
            assert time.monotonic() < end, "libvirtd does not answer"
            time.sleep(0.1)

    def stop(self):
        """Ends it; its domains run on."""
        self.process.terminate()
        self.process.wait(30)

    @property
    def uri(self):
        return f"qemu+unix:///system?socket={self.socket}"

    def virsh(self, *words, check=True):
        """Runs a command of virsh's."""
        done = subprocess.run(
            ["virsh", "-q", "-c", self.uri, *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, (words, done.stderr, self.logs())
        return done

    def ask(self, *words):
        """What a command prints."""
        return self.virsh(*words).stdout.strip()

    def wait(self, wanted, *words, seconds=60):
        """Asks until `wanted` is in what is printed; returns that."""
        end = time.monotonic() + seconds
        while wanted not in (said := self.ask(*words)):
            assert time.monotonic() < end, (words, wanted, said, self.logs())
            time.sleep(0.2)
        return said

    def logs(self):
        """What the emulators have written."""
        return [path.read_text()[-2000:] for path in (self.folder / "log/qemu").glob("*.log")]

    def close(self):
        """Ends it and its domains."""
        for name in self.virsh("list", "--name", check=False).stdout.split():
            self.virsh("destroy", name, check=False)
        self.stop()


def skip_without():
    """Skips the test where there is no libvirt."""
    why = Libvirtd.missing()
    if why:
        pytest.skip(f"a real libvirtd cannot be had: {why}")
