"""The host that a result was measured on, in words; what of it is unknown is left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def host() -> dict[str, str]:
    """Processor, memory, kernel, and what kind of kvm there is."""
    uname = os.uname()
    found = {
        "cpu": _field("/proc/cpuinfo", "model name") or uname.machine,
        "machine": uname.machine,
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory": _memory(),
        "kernel": f"{uname.sysname} {uname.release}",
        "system": _system(),
        "hypervisor": "yes" if "hypervisor" in _field("/proc/cpuinfo", "flags").split() else "",
        "kvm": kvm(),
    }
    return {name: value for name, value in found.items() if value}


def kvm() -> str:
    """The kind of KVM, or why it cannot be used."""
    from accel.choice import kvm_obstacle
    from accel.kvm.device import emulates_cpl0

    if obstacle := kvm_obstacle():
        return f"not usable: {obstacle}"
    kinds = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if Path(f"/sys/module/{name}").is_dir()]
    how = ", which emulates the guest's kernel mode" if emulates_cpl0() else ""
    return (", ".join(kinds) or "built into the kernel") + how


def engines() -> dict[str, str]:
    """Versions of all that takes part."""
    from importlib.metadata import PackageNotFoundError, version

    from emu import __version__

    found = {"emu": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    try:
        found["unicorn"] = version("unicorn")
    except PackageNotFoundError:
        pass
    for name in ("qemu-aarch64", "qemu-system-aarch64", "qemu-system-x86_64"):
        if said := _version(name):
            found[name] = said
    return found


def _version(program: str) -> str:
    """What a program of QEMU's says it is; "" if it is not there."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"version (\S+(?: \([^)]*\))?)", said.stdout)
    return found[1] if found else ""


def _field(path: str, name: str) -> str:
    """The first value of that name in a file of "name : value" lines."""
    try:
        text = Path(path).read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _memory() -> str:
    kib = _field("/proc/meminfo", "MemTotal").split()
    return f"{int(kib[0]) / (1 << 20):.0f} GiB" if kib else ""


def _system() -> str:
    try:
        text = Path("/etc/os-release").read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return found[1] if found else ""
