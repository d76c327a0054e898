"""Which accelerator runs a guest: the words `auto`, `kvm`, `tcg` and `kvm:tcg` against what this host can do.

`auto` takes kvm where guest and host are of one architecture and /dev/kvm works, else tcg; and tcg for a
whole machine where kvm emulates kernel-mode code, and is slower.  Cheap checks only (open, API version,
capabilities) for programs: this is on the path of every one's start.  What can be measured besides is
accel.kvm.probe's.
"""

import os

from accel.errors import AccelError, Unavailable, Unsupported, nearest
from isa.arch import UnknownArch, canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Purpose = Literal["machine", "program"]

# What accel.kvm can run, by purpose, where the host is of the same architecture.
KVM_RUNS: "dict[Purpose, tuple[str, ...]]" = {"machine": ("x86_64",), "program": ("x86_64",)}


# The usual words for choose().
ACCELERATORS = ("auto", "kvm", "tcg", "kvm:tcg")
# What may stand behind the accelerators' names, for machines under kvm: QEMU's words, and ours.
OPTIONS = {"kernel-irqchip": ("on", "split", "off"), "crossing": ("on", "off")}


def split_options(spec: str) -> "tuple[str, dict[str, str]]":
    """The words for choose(), and the options after them: "kvm,kernel-irqchip=off".  Raises AccelError."""
    names, *given = spec.split(",")
    options = {}
    for words in given:
        name, _, value = words.partition("=")
        if name not in OPTIONS:
            raise AccelError(
                f"an accelerator has no option {name!r}{nearest(name, OPTIONS)}; use {', '.join(OPTIONS)}"
            )
        if value not in OPTIONS[name]:
            raise AccelError(f"{name}={value}: use {name}={'|'.join(OPTIONS[name])}")
        if names == "tcg":
            raise AccelError(f"{name} is an option of kvm; leave it out, or use --accel kvm")
        options[name] = value
    return names, options


def choose_machine(spec: str, arch: str, cpu: str = "") -> "tuple[str, dict[str, Any], str]":
    """The accelerator for a whole machine, what open_accelerator() is told, and one line for the user.

    spec: as for choose(), with options; cpu: the word of --cpu, "" for what is usual.  Where the words leave
    a choice, kvm is tried: one that cannot run this guest is told, and tcg taken.
    """
    names, given = split_options(spec)
    name, note = choose(names, arch, "machine")
    if name == "kvm":
        words = _kvm_options(given, cpu)
        note = note or _late_ends(words)
        if names == "auto" or "tcg" in names.split(":"):
            from accel.kvm.trial import why_not

            cause = why_not(**words)
            if not cause:
                return name, words, note
            name, note = "tcg", f"running under tcg: {cause}"
        else:
            return name, words, note
    return name, {"cpu": cpu} if cpu else {}, note


def _late_ends(words: "dict[str, Any]") -> str:
    """A warning for who asks for split controllers where a HLT holds the end of an interrupt back."""
    from accel.kvm.device import emulates_cpl0

    if words["irqchip"] != "split" or not emulates_cpl0():
        return ""
    return (
        "this host's KVM emulates kernel mode, and its local APICs alone may lose a level-triggered interrupt"
        " of a guest that sleeps; use kernel-irqchip=on or off"
    )


def _kvm_options(given: "dict[str, str]", cpu: str) -> "dict[str, Any]":
    """By the options, or as this host is.

    The kernel's interrupt controllers, but where KVM emulates kernel mode: there tcg, which cannot use them,
    does a part of the work.
    """
    from accel.kvm.device import emulates_cpl0

    emulated = emulates_cpl0()
    words: dict[str, Any] = {"irqchip": given.get("kernel-irqchip") or ("off" if emulated else "on")}
    words["crossing"] = given.get("crossing") != "off"
    if emulated and words["crossing"] and words["irqchip"] == "off":
        words["moves"] = True
    if cpu:
        words["cpu"] = cpu
    return words


def choose(spec: str, arch: str, purpose: "Purpose") -> tuple[str, str]:
    """The accelerator for a guest, "kvm" or "tcg", and one line for the user ("" if it goes without saying).

    spec: auto, kvm, tcg or several in order of preference, as kvm:tcg; arch: the isa's name (x86_64, aarch64,
    arm, riscv64); purpose: a whole "machine" or a Linux "program".  The caller writes the line to stderr.
    Raises AccelError for a word that names no accelerator; Unsupported or Unavailable, with cause and remedy,
    when the only accelerator that was asked for cannot be had.
    """
    names = ["kvm", "tcg"] if spec == "auto" else spec.split(":")
    for name in names:
        if name not in ("kvm", "tcg"):
            *others, last = ACCELERATORS
            known = f"{nearest(name, ACCELERATORS)}; use {', '.join(others)} or {last}"
            raise AccelError(f"no accelerator is called {name!r}{known}")
    if names[0] == "tcg":
        return "tcg", ""
    never = kvm_never(arch, purpose)
    cause = never or kvm_obstacle()
    if not cause:
        slow = kvm_slow() if spec == "auto" and purpose == "machine" else ""
        return ("tcg", f"running under tcg: {slow}") if slow else ("kvm", "")
    if "tcg" not in names:
        if never:
            raise Unsupported(f"{never}; use --accel tcg, or leave --accel out")
        raise Unavailable(f"kvm cannot be used: {cause}; or use --accel tcg")
    # For another architecture than the host's, translation is what anybody expects.
    obvious = spec == "auto" and host() != arch
    return "tcg", "" if obvious else f"running under tcg: {cause}"


def host() -> str:
    """The isa's name of this host, or uname's word for one that the isa does not have."""
    machine = os.uname().machine
    try:
        return canonical(machine)
    except UnknownArch:
        return machine


def kvm_never(arch: str, purpose: "Purpose") -> str:
    """Why kvm can never run such a guest on this host; "" if it could."""
    if arch != host():
        return f"kvm runs only guests of the host's own architecture, {host()}, and this one is {arch}"
    if arch not in KVM_RUNS[purpose]:
        others = [kind for kind, archs in KVM_RUNS.items() if arch in archs]
        return f"kvm runs no {arch} {purpose}s" + (f" so far, only {others[0]}s" if others else "")
    return ""


def kvm_obstacle() -> str:
    """Why this host's kvm cannot be used now, with the remedy; "" if it can."""
    from accel.kvm.device import open_device

    try:
        os.close(open_device())
    except Unavailable as error:
        return str(error)
    return ""


def kvm_slow() -> str:
    """Why guest kernels run faster under tcg than under this host's kvm; "" where they do not.

    Only where kvm_pvm is loaded can that be: then it is measured, in some 20 ms.
    """
    if not os.path.isdir("/sys/module/kvm_pvm"):  # noqa: PTH112  pathlib costs a program's start
        return ""
    from accel.kvm.probe import kernel_mode

    return next((found.cause for found in kernel_mode() if not found.ok), "")
