"""The ready guest debian-arm64: a small Debian on a disk, made of its packages without root and debootstrap.

apt fetches and checks the packages; they are unpacked once by the host, so that Debian's own dpkg can run,
which then installs all of them by the book, maintainer scripts and all, as a program of emu's.  The
file system is made by Debian's mke2fs, run in the same way.

init is sysvinit, and what runs first is a script of ours: a process costs tens of milliseconds in an emulated
machine, and so Debian's scripts for that take half a minute where ours needs four seconds (systemd
takes twenty).  The services of runlevel 2 and all the rest are Debian's.

The disk boots in two ways: emu gives the kernel and an initial RAM disk to the machine, or firmware
(EDK2) finds both in the disk's first partition, where systemd-boot starts them.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from emu.images import busybox, disk
from emu.images.modules import Modules
from emu.images.owners import Owners
from emu.images.program import run
from emu.images.progress import Progress
from emu.samples.debian import accounts, archives, lay_out, sources, unpack, unpacked

ARCHITECTURE = "arm64"
PACKAGES = (
    "?essential", "?priority(required)", "apt", "sysvinit-core", "debian-archive-keyring", "ca-certificates",
    "kmod", "procps", "netbase", "iproute2", "ifupdown", "udhcpc", "iputils-ping", "openssh-server",
    "nano", "less",
)  # fmt: skip
# Modules that a guest may want though it has no such hardware: file systems, networks, virtual devices.
MODULES = (
    "arch", "block", "crypto", "fs", "lib", "mm", "net",
    "drivers/block", "drivers/char", "drivers/md", "drivers/nvme", "drivers/vhost", "drivers/virtio",
    "drivers/net/tun.ko", "drivers/net/veth.ko", "drivers/net/dummy.ko", "drivers/net/vxlan",
    "drivers/net/macvlan.ko", "drivers/net/wireguard",
)  # fmt: skip
FIRST = (*busybox.DEVICES["arm64"], "ext4", "crc32c_generic")  # of those, in the initial RAM disk

LABEL = "emu-debian"
SIZE = 8 << 30  # of the disk as the guest sees it; only what is written takes space
ESP = (1 * disk.MIB, 64 * disk.MIB)
ROOT = (65 * disk.MIB, SIZE - 66 * disk.MIB)
APPEND = f"console=ttyAMA0 root=LABEL={LABEL} quiet"

FILES = {
    "etc/hostname": "debian\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/fstab": f"LABEL={LABEL} / ext4 errors=remount-ro 0 1\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/network/interfaces.d/eth0": "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
    "etc/ssh/sshd_config.d/emu.conf": """\
# emu boot brings along the public keys of whoever starts it, anew at every start.
AuthorizedKeysFile .ssh/authorized_keys /run/emu/authorized_keys
""",
    "etc/profile.d/emu.sh": """\
# emu boot tells the terminal's kind and size on the kernel's command line: a serial line cannot.
if [ "$(tty)" = /dev/ttyAMA0 ]; then
    for word in $(cat /proc/cmdline); do
        case $word in
        TERM=*) export "$word" ;;
        LINES=*) stty rows "${word#*=}" ;;
        COLUMNS=*) stty cols "${word#*=}" ;;
        esac
    done
fi
""",
}

RCS = """\
#!/bin/sh
# The first of what init starts: what Debian's scripts in /etc/rcS.d do, with as few processes as can be,
# since each costs tens of milliseconds in an emulated machine.  /dev, /proc, /sys and /run are there already.
# Scripts there that are not Debian's base are run at the end.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

read -r name < /etc/hostname && echo "$name" > /proc/sys/kernel/hostname
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts -o gid=5,mode=620,noexec,nosuid devpts /dev/pts
mount -t tmpfs -o nosuid,nodev shm /dev/shm
mount -t tmpfs -o nosuid,nodev,noexec,size=5M lock /run/lock
ln -sf /dev/shm /run/shm

fsck -T -a / > /run/emu/fsck
case $? in
0 | 1) ;;
2 | 3)
    cat /run/emu/fsck
    echo "The root file system was repaired; starting again."
    reboot -f
    ;;
*)
    cat /run/emu/fsck
    echo "The root file system needs fsck by hand; the machine starts again after this shell."
    sulogin --force
    reboot -f
    ;;
esac
mount -o remount,rw /
mount -a
find /tmp -xdev -mindepth 1 -delete
: > /run/utmp
chown root:utmp /run/utmp
chmod 664 /run/utmp
sysctl -q --system
ifup -a

for script in /etc/rcS.d/S*; do
    case ${script#*/S??} in
    bootmisc.sh | brightness | checkfs.sh | checkroot.sh | checkroot-bootclean.sh) ;;
    hostname.sh | hwclock.sh | mount-configfs | mountall.sh | mountall-bootclean.sh) ;;
    mountdevsubfs.sh | mountkernfs.sh | mountnfs.sh | mountnfs-bootclean.sh) ;;
    networking | procps | urandom) ;;
    *) "$script" start ;;
    esac
done
"""

# Whoever has this line has the machine, its disk and its kernel's command line: a password would keep
# nobody out.
CONSOLE = """
# emu: root's shell on the serial line; without --autologin root it asks who is there.
T0:23:respawn:/sbin/agetty --autologin root --keep-baud 115200,38400,9600 ttyAMA0 vt220
# emu: the power button.
pb:2345:once:/bin/busybox acpid -l /dev/null
"""

INIT = f"""\
#!/bin/busybox sh
# Finds the root by its label and starts its init.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755,nosuid,nodev run /run
mkdir /run/emu
[ -e /authorized_keys ] && cp /authorized_keys /run/emu
while read module; do
    insmod /modules/$module.ko
done < /modules/order
root= init=/sbin/init
for word in $(cat /proc/cmdline); do
    case $word in
    root=*) root=${{word#root=}} ;;
    init=*) init=${{word#init=}} ;;
    esac
done
if device=$(findfs "${{root:=LABEL={LABEL}}}") && mount -t ext4 -o ro "$device" /root; then
    under=/root
    {busybox.SHARES}
    for folder in proc sys dev run; do
        mount --move /$folder /root/$folder
    done
    exec switch_root /root $init "$@"
fi
echo "emu: the root $root cannot be mounted; this is a shell of the initial RAM disk" >&2
exec cttyhack sh
"""


def make(folder: Path, progress: Progress) -> None:
    """Makes kernel, initrd and disk.qcow2.  Raises an EmuError where packages or their scripts fail."""
    with Owners() as owners:
        # root's files are what they shall be.
        _make(folder, progress, None if os.geteuid() == 0 else owners)


def _make(folder: Path, progress: Progress, owners: Owners | None) -> None:
    root, debs = folder / "root", folder / "debs"
    debs.mkdir()
    progress.step("fetching packages")
    packages = archives(PACKAGES, ARCHITECTURE, debs)
    kernel_package = busybox.kernel_package()
    progress.step("unpacking", len(packages))
    root.mkdir()
    root.chmod(0o755)
    lay_out(root)
    for package in packages:
        # dpkg leaves folders as it finds them.
        for name, user, group in unpack(package, root):
            if owners is None:
                os.chown(root / name, user, group)
            else:
                owners.give(root / name, user, group)
        progress.advance()
    with Installation(root, packages, owners) as guest:
        progress.step("installing", len(packages))
        guest.unpack(progress.advance)
        progress.step("configuring", len(packages))
        guest.configure(progress.advance)
        progress.step("setting up")
        guest.modules(Modules(kernel_package))
        guest.settings()
    shutil.copyfile(busybox.kernel(kernel_package), folder / "kernel")
    (folder / "initrd").write_bytes(initrd(kernel_package))
    progress.step("making file systems")
    raw = folder / "disk.raw"
    with open(raw, "wb") as file:
        file.truncate(SIZE)
    disk.write_table(
        raw,
        [
            (disk.EFI_SYSTEM, "EFI system partition", *ESP),
            (disk.LINUX_ROOT_ARM64, "root", *ROOT),
        ],
    )
    _boot_partition(raw, folder, root)
    _root_partition(raw, root, owners)
    shutil.rmtree(root)
    shutil.rmtree(debs)
    progress.step("making the disk image")
    disk.to_qcow2(raw, folder / "disk.qcow2")
    raw.unlink()


def initrd(kernel_package: Path) -> bytes:
    """The initial RAM disk that finds the root, compressed."""
    archive = busybox.foundation(kernel_package, FIRST)
    archive.file("init", INIT.encode(), 0o755)
    return gzip.compress(archive.data(), 6, mtime=0)


class Installation:
    """Debian's packages, unpacked in `root`, become an installed system: dpkg does it, run by emu."""

    ARCHIVES = "var/cache/apt/archives"
    # Nothing is started while it is installed (invoke-rc.d's interface, /usr/share/doc/init-system-helpers).
    POLICY = "usr/sbin/policy-rc.d"

    def __init__(self, root: Path, packages: Sequence[Path], owners: Owners | None) -> None:
        self.root = root
        self.owners = owners
        self.packages = packages

    def __enter__(self) -> Installation:
        accounts(self.root)
        for name in ("info", "parts", "updates", "triggers"):
            (self.root / "var/lib/dpkg" / name).mkdir(parents=True, exist_ok=True)
        for name in ("status", "available"):
            (self.root / "var/lib/dpkg" / name).touch()
        for package in self.packages:
            (self.root / self.ARCHIVES / package.name).hardlink_to(package)
        self._write(self.POLICY, "#!/bin/sh\nexit 101\n", 0o755)
        return self

    def __exit__(self, *_: object) -> None:
        (self.root / self.POLICY).unlink()
        for package in self.packages:
            (self.root / self.ARCHIVES / package.name).unlink()

    def unpack(self, advance: Callable[[], None]) -> None:
        """All at once: what they need of each other is not there before, which dpkg is told to bear."""
        command = f"dpkg --force-depends --force-unsafe-io --unpack /{self.ARCHIVES}/*.deb"
        self.run(command, lambda line: advance() if line.startswith(b"Unpacking ") else None)

    def configure(self, advance: Callable[[], None]) -> None:
        """Runs the packages' scripts, in the order of what they need."""
        command = "dpkg --force-unsafe-io --configure -a"
        self.run(command, lambda line: advance() if line.startswith(b"Setting up ") else None)

    def modules(self, modules: Modules) -> None:
        """The kernel's, as far as MODULES say, and their table."""
        chosen = [
            name
            for name, path in modules.files.items()
            if str(path.relative_to(modules.folder / "kernel")).startswith(MODULES)
        ]
        target = self.root / "usr/lib/modules" / modules.release
        for name, _ in modules.closure([*chosen, *FIRST]):
            path = target / modules.files[name].relative_to(modules.folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(modules.files[name], path)
        for path in modules.folder.glob("modules.*"):
            shutil.copyfile(path, target / path.name)
        self.run(f"depmod {modules.release}")

    def settings(self) -> None:
        """What makes a guest of emu's of it."""
        for name, text in FILES.items():
            self._write(name, text)
        self._write("etc/apt/sources.list", sources(ARCHITECTURE))
        self._write("etc/emu/rcS", RCS, 0o755)
        self._write(f"etc/acpi/{busybox.POWER_KEY}", "#!/bin/sh\nexec /sbin/poweroff\n", 0o755)
        inittab = self.root / "etc/inittab"
        lines = inittab.read_text().replace("/etc/init.d/rcS", "/etc/emu/rcS").splitlines(keepends=True)
        inittab.write_text("".join(line for line in lines if "/sbin/getty" not in line) + CONSOLE)
        mtab = self.root / "etc/mtab"
        if not mtab.is_symlink():
            mtab.symlink_to("../proc/self/mounts")

    def run(self, command: str, told: Callable[[bytes], None] = lambda line: None) -> None:
        """Runs a shell's command in the root, and calls `told` with the lines that it prints."""
        run(["/bin/sh", "-c", command], owners=self.owners, root=self.root, told=told)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


def _boot_partition(raw: Path, folder: Path, tree: Path) -> None:
    """systemd-boot, and what it starts: kernel and initial RAM disk."""
    loader = unpacked("systemd-boot-efi", ARCHITECTURE) / "usr/lib/systemd/boot/efi/systemd-bootaa64.efi"
    tools = unpacked("mtools", ARCHITECTURE) / "usr/bin"
    entry = folder / "entry"
    entry.write_text(f"title Debian\nlinux /kernel\ninitrd /initrd\noptions {APPEND}\n")
    settings = folder / "loader.conf"
    settings.write_text("timeout 0\n")
    offset, size = ESP
    image = f"{raw}@@{offset}"
    for words in (
        ("mformat", "-i", image, "-F", "-c", "1", "-T", str(size // disk.SECTOR), "-v", "EMU-BOOT", "::"),
        ("mmd", "-i", image, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"),
        ("mcopy", "-i", image, str(loader), "::/EFI/BOOT/BOOTAA64.EFI"),
        ("mcopy", "-i", image, str(settings), "::/loader/loader.conf"),
        ("mcopy", "-i", image, str(entry), "::/loader/entries/debian.conf"),
        ("mcopy", "-i", image, str(folder / "kernel"), str(folder / "initrd"), "::/"),
    ):
        run([str(tools / words[0]), *words[1:]], owners=None, sysroot=tree)
    entry.unlink()
    settings.unlink()


def _root_partition(raw: Path, tree: Path, owners: Owners | None) -> None:
    offset, size = ROOT
    words = ["-q", "-F", "-t", "ext4", "-L", LABEL, "-d", str(tree), "-E", f"offset={offset}"]
    mke2fs = str(tree / "usr/sbin/mke2fs")
    run([mke2fs, *words, str(raw), f"{size // 1024}k"], owners=owners, sysroot=tree)
