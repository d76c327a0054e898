"""Which accelerator runs a guest: the words `auto`, `kvm`, `tcg` and `kvm:tcg` against what this host can do.

`auto` takes kvm where guest and host are of one architecture and /dev/kvm works, else tcg.  Cheap checks
only: this is on the path of every program's start.  What can be measured besides is `emu doctor`'s.
"""

import os

from accel.errors import AccelError, Unavailable, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Purpose = Literal["machine", "program"]

# uname's machine: the isa's name.
HOSTS = {"x86_64": "x86_64", "aarch64": "aarch64", "riscv64": "riscv64", "armv7l": "arm"}
# What accel/kvm can run, by purpose; the host's architecture must be the same.
KVM_RUNS = {"machine": ("x86_64",), "program": ()}


def choose(spec: str, arch: str, purpose: "Purpose") -> tuple[str, str]:
    """The accelerator's name ("kvm" or "tcg") for a guest, and one line for the user, "" if it goes without saying.

    spec: auto, kvm, tcg or several in order of preference, as kvm:tcg; arch: the isa's name (x86_64, aarch64,
    arm, riscv64); purpose: a whole "machine" or a Linux "program".  The caller writes the line to stderr.
    Raises AccelError for a word that names no accelerator; Unsupported or Unavailable, with cause and remedy,
    when the only accelerator that was asked for cannot be had.
    """
    names = ["kvm", "tcg"] if spec == "auto" else spec.split(":")
    for name in names:
        if name not in ("kvm", "tcg"):
            raise AccelError(f"no accelerator is called {name!r}; use auto, kvm, tcg or kvm:tcg")
    if names[0] == "tcg":
        return "tcg", ""
    foreign = foreignness(arch, purpose)
    cause = foreign or obstacle()
    if not cause:
        return "kvm", ""
    if "tcg" not in names:
        if foreign:
            raise Unsupported(f"{foreign}; use --accel tcg or leave --accel out")
        raise Unavailable(f"kvm cannot be used: {cause}; or use --accel tcg")
    # For another architecture than the host's, translation is what anybody expects.
    obvious = spec == "auto" and host() != arch
    return "tcg", "" if obvious else f"kvm cannot be used ({cause}); running under tcg"


def host() -> str:
    """The isa's name of this host, or uname's word for one that emu has no table of."""
    machine = os.uname().machine
    return HOSTS.get(machine, machine)


def foreignness(arch: str, purpose: "Purpose") -> str:
    """Why kvm can never run such a guest here; "" if it can."""
    if arch != host():
        return f"kvm runs only the host's own architecture, {host()}, and this guest is {arch}"
    if arch not in KVM_RUNS[purpose]:
        return f"kvm runs whole {arch} machines here, not {arch} {purpose}s"
    return ""


def obstacle() -> str:
    """Why kvm cannot be used on this host now, with the remedy; "" if it can."""
    from accel.kvm.probe import obstacle

    return obstacle()
