"""The user-mode engine on a KVM by the book: Linux's kvm_amd, on a CPU with SVM that QEMU translates.

Where a host's own KVM has its peculiarities (accel.kvm.probe names them), this is where SYSCALL enters CPL0
and the stubs at CPL0 run on the CPU.  EMU_SHADOW_PAGING=1 in the environment also runs it without nested
paging.  Takes about a minute.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from accel.errors import Unavailable
from emu.samples.debian import current, unpacked

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "accel" / "native"
KERNEL = "linux-image-cloud-amd64"
FILE, FOLDER, DEVICE = 0o100755, 0o040755, 0o020600


def kernel() -> Path:
    """The folder of Debian's unpacked kernel for clouds, the one that the host's sources name now."""
    try:
        return unpacked(current(KERNEL, "amd64"), "amd64")
    except Unavailable as error:
        pytest.skip(str(error))


def newc(entries: list[tuple[str, int, tuple[int, int], bytes]]) -> bytes:
    """An initramfs in Linux's "new ASCII" cpio format, of names, modes, devices and contents."""
    out = bytearray()
    for number, (name, mode, device, data) in enumerate([*entries, ("TRAILER!!!", 0, (0, 0), b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """Paths of a kernel and an initramfs."""
    if platform.machine() != "x86_64":
        pytest.skip(f"the engine is for x86-64 hosts, and this one is {platform.machine()}")
    for tool in ("gcc", "qemu-system-x86_64"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    files = kernel()
    folder = tmp_path_factory.mktemp("svm")
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-static", "-I", CORE, "-I", HERE, "-DCPU_WITHOUT_AC_AND_XM"]
    for name, sources in (
        ("init", [HERE / "kvm_init.c"]),
        ("test", [HERE / "kvm_user_test.c", *sorted(CORE.glob("kvm_user*.c"))]),
    ):
        subprocess.run(["gcc", *flags, *sources, "-pthread", "-o", folder / name], check=True, timeout=120)
    entries = [("dev", FOLDER, (0, 0), b""), ("dev/console", DEVICE, (5, 1), b"")]
    entries += [(name, FILE, (0, 0), (folder / name).read_bytes()) for name in ("init", "test")]
    for module in ("irqbypass.ko", "kvm.ko", "kvm-amd.ko"):
        entries.append((module, FILE, (0, 0), next(files.rglob(module)).read_bytes()))
    (folder / "initrd").write_bytes(newc(entries))
    return next(files.glob("boot/vmlinuz-*")), folder / "initrd"


@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_the_engine_keeps_its_promises_where_syscall_enters_the_kernel(guest, paging):
    if paging == "shadow" and os.environ.get("EMU_SHADOW_PAGING") != "1":
        pytest.skip("another minute for old CPUs' way of paging: EMU_SHADOW_PAGING=1 spends it")
    kernel, initrd = guest
    done = subprocess.run(
        [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "EPYC,+svm,+npt", "-m", "2048", "-nic", "none"),
            *("-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd),
            *("-append", f"console=ttyS0 panic=-1 quiet mitigations=off {paging}"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
    )
    printed = done.stdout.decode(errors="replace").replace("\r", "")
    assert "\nstatus 0\n" in printed, printed[-4000:]
