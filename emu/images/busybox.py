"""An initial RAM disk of busybox and a kernel's modules: a guest without a disk, in seconds.

    initrd()                                  a shell on the console
    initrd("uname -a")                        runs a script on the console and switches the machine off
    initrd("cat /proc/bus/pci/devices", modules=["virtio_pci"])

In the guest the modules are loaded, proc, sys and dev are mounted, eth0 is configured by DHCP if there is
one, and a host's folder (9p) is at /mnt; several of them are at /mnt/TAG.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from emu.images.modules import Modules
from emu.images.progress import Progress
from emu.loader.cpio import Archive
from emu.samples.debian import current, unpacked

BUSYBOX = "busybox-static"
# Debian's kernel, by its name for the architecture.
KERNELS = {"arm64": "linux-image-arm64", "amd64": "linux-image-cloud-amd64"}
# Drivers of what the board has, transports first; the power button; file systems.
DEVICES = {
    "arm64": (
        "virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng",
        "virtio_balloon", "9pnet_virtio", "9p", "gpio_keys", "evdev",
    ),
    # This kernel has no 9p.
    "amd64": (
        "virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng",
        "virtio_balloon", "button", "evdev",
    ),
}  # fmt: skip

# Shell: mounts the host's folders at $under/mnt, or at $under/mnt/TAG if there are several.
SHARES = """\
tags=$(for file in /sys/bus/virtio/drivers/9pnet_virtio/*/mount_tag; do
    [ -e "$file" ] && tr '\\0' '\\n' < "$file"
done)
several=$(echo "$tags" | sed -n 2p)
[ "$several" ] && mount -t tmpfs -o mode=755 mnt "$under/mnt"
for tag in $tags; do
    place=$under/mnt${several:+/$tag}
    mkdir -p "$place"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 "$tag" "$place"
done
"""

INIT = f"""\
#!/bin/busybox sh
# Sets the guest up, then runs /script if there is one, or busybox's init with shells.
export PATH=/bin HOME=/root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
hostname emu
while read module; do
    insmod /modules/$module.ko
done < /modules/order
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    udhcpc -i eth0 -s /etc/udhcpc -b -q -t 2 -T 1 > /dev/null 2>&1
fi
under=
{SHARES}
if [ -e /script ]; then
    . /script
    poweroff -f
fi
exec init
"""

DHCP = """\
#!/bin/sh
# What udhcpc learned, as it calls its script: $1, and variables by DHCP's names.
case $1 in
deconfig)
    ip address flush dev $interface
    ip link set $interface up
    ;;
bound | renew)
    ip address replace $ip/$mask dev $interface
    for gateway in $router; do
        ip route replace default via $gateway dev $interface
    done
    for server in $dns; do
        echo nameserver $server
    done > /etc/resolv.conf
    ;;
esac
"""

# A shell with a terminal of its own, so that Ctrl-C and jobs work, again when it ends.
INITTAB = """\
::once:acpid -l /dev/null
::respawn:cttyhack sh -l
::ctrlaltdel:reboot
::shutdown:sync
"""

PROFILE = """\
export HOME=/root PS1='root@emu:\\w# '
# emu boot tells the terminal's kind and size on the kernel's command line.
for word in $(cat /proc/cmdline); do
    case $word in
    TERM=*) export "$word" ;;
    LINES=*) stty rows ${word#*=} ;;
    COLUMNS=*) stty cols ${word#*=} ;;
    esac
done
cd
"""

# The power button's key, by the names of busybox's acpid.
POWER_KEY = "PWRF/00000080"


def make(folder: Path, progress: Progress) -> None:
    """The ready guest busybox-arm64: a shell (emu.images.catalog).  Raises Unavailable."""
    _make(folder, progress, "arm64")


def make_amd64(folder: Path, progress: Progress) -> None:
    """The ready guest busybox-amd64.  Raises Unavailable."""
    _make(folder, progress, "amd64")


def _make(folder: Path, progress: Progress, architecture: str) -> None:
    progress.step("fetching the kernel")
    package = kernel_package(architecture)
    shutil.copyfile(kernel(package), folder / "kernel")
    progress.step("making the initial RAM disk")
    (folder / "initrd").write_bytes(initrd(package=package, architecture=architecture))


def kernel_package(architecture: str = "arm64") -> Path:
    """The folder of Debian's kernel package, arm64's or amd64's; fetched if it is not there.

    Raises Unavailable.
    """
    return unpacked(current(KERNELS[architecture], architecture), architecture)


def kernel(package: Path | None = None, architecture: str = "arm64") -> Path:
    """The kernel's image.  Raises Unavailable."""
    return next((package or kernel_package(architecture)).glob("boot/vmlinuz-*"))


def initrd(
    script: str | None = None,
    *,
    modules: Iterable[str] | None = None,
    files: Mapping[str, bytes] | None = None,
    package: Path | None = None,
    architecture: str = "arm64",
) -> bytes:
    """The initial RAM disk for the kernel of kernel_package(), compressed.

    script: shell commands to run instead of a shell; the machine is switched off after them.
    modules: what to load, with what they need, in this order (default: all of DEVICES); files: executable
    ones to add, by name; architecture: Debian's name, of KERNELS.
    Raises Unavailable where Debian's packages cannot be fetched.
    """
    package = package or kernel_package(architecture)
    archive = foundation(package, DEVICES[architecture] if modules is None else modules, architecture)
    archive.file("init", INIT.encode(), 0o755)
    archive.file("etc/udhcpc", DHCP.encode(), 0o755)
    archive.file("etc/inittab", INITTAB.encode())
    archive.file("etc/profile", PROFILE.encode())
    archive.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\n")
    archive.file(f"etc/acpi/{POWER_KEY}", b"#!/bin/sh\nexec poweroff\n", 0o755)
    for name, data in (files or {}).items():
        archive.file(name, data, 0o755)
    if script is not None:
        archive.file("script", f"{script}\n".encode())
    return gzip.compress(archive.data(), 6, mtime=0)


def foundation(package: Path, modules: Iterable[str], architecture: str = "arm64") -> Archive:
    """What an initial RAM disk's /init stands on: busybox, and modules with the order to insert them in."""
    archive = Archive()
    archive.file("bin/busybox", (unpacked(BUSYBOX, architecture) / "bin/busybox").read_bytes(), 0o755)
    for name in ("proc", "sys", "dev", "tmp", "mnt", "root", "run", "var/run"):
        archive.folder(name)
    archive.device("dev/console", "c", 5, 1)
    archive.device("dev/null", "c", 1, 3, 0o666)
    loaded = Modules(package).closure(modules)
    for name, data in loaded:
        archive.file(f"modules/{name}.ko", data)
    archive.file("modules/order", "".join(f"{name}\n" for name, _ in loaded).encode())
    return archive
