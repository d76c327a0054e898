"""`emu --version`: emu's, and that of all it stands on; the first line is emu's alone."""

from __future__ import annotations

import sys
from typing import Any

from accel.errors import EmuError
from emu import __version__


def facts() -> dict[str, Any]:
    """Versions by name, as values that JSON can hold; None: it is not there.  kvm: why it cannot be used."""
    from accel.choice import kvm_obstacle

    return {
        "emu": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "cffi": package("cffi"),
        "translator": translator(),
        "unicorn": package("unicorn"),
        "capstone": package("capstone"),
        "libslirp": libslirp(),
        "kvm": kvm_obstacle(),
    }


def text() -> str:
    """The same for people."""
    found = facts()
    shown = found | {
        "translator": "arm64 programs" if found["translator"] else None,
        "kvm": f"not usable: {found['kvm']}" if found["kvm"] else "usable",
    }
    lines = [f"emu {shown.pop('emu')}"]
    lines += [f"{name:<12} {value or 'not there'}" for name, value in shown.items()]
    return "\n".join(lines) + "\n"


def package(name: str) -> str | None:
    """The version of an installed Python package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def translator() -> bool:
    """Whether arm64 programs are translated by emu's own translator where nobody chooses."""
    try:
        from accel.native import ffi, lib
    except EmuError:
        return False  # the core is not built, which emu doctor tells
    return bool(ffi.string(lib.emu_engine_name(ffi.NULL)) == b"translator")


def libslirp() -> str | None:
    """The version of the library that user networking needs."""
    try:
        from emu.devices.native import ffi, lib
    except EmuError:
        return None
    found = lib.emu_net_user_version()
    return None if found == ffi.NULL else bytes(ffi.string(found)).decode()
