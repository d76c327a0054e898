"""Where emu keeps what is its user's: the folders of the XDG Base Directory Specification.

A variable that is no absolute path counts as none, as the specification has it.  Texts, not Paths: they stand
on the way of every machine's start.
"""

from __future__ import annotations

import os

# The variable, the folder where it is not set, what is there; in each is one called emu.
TABLE = {
    "config": ("XDG_CONFIG_HOME", "~/.config", "config.toml"),
    "data": ("XDG_DATA_HOME", "~/.local/share", "guests with their changes"),
    "state": ("XDG_STATE_HOME", "~/.local/state", "snapshots of machines without disks, crash reports"),
    "cache": ("XDG_CACHE_HOME", "~/.cache", "what can be fetched or made again: Debian's packages, images"),
    "runtime": ("XDG_RUNTIME_DIR", "/tmp/emu-UID", "sockets of running machines"),
}


def cache() -> str:
    """What can be fetched or made again."""
    return _folder("cache")


def data() -> str:
    """What is the user's and cannot be made again."""
    return _folder("data")


def config() -> str:
    """What the user has written."""
    return _folder("config")


def state() -> str:
    """What lasts, but could be lost."""
    return _folder("state")


def runtime() -> str:
    """What is gone with the session; not below a home, for others may share that."""
    named = os.environ.get(TABLE["runtime"][0], "")
    return f"{named}/emu" if named.startswith("/") else f"/tmp/emu-{os.getuid()}"


def _folder(name: str) -> str:
    variable, usual, _ = TABLE[name]
    named = os.environ.get(variable, "")
    return f"{named if named.startswith('/') else os.path.expanduser(usual)}/emu"


def configuration() -> str:
    """The file with the user's settings: $EMU_CONFIG, or config.toml in config(); "" where that is not there.

    The launcher (cli/native/emu.c) looks for it by the same rule; without a HOME nobody is asked for one.
    """
    named = os.environ.get("EMU_CONFIG")
    if named:
        return named
    if "HOME" not in os.environ and not os.environ.get("XDG_CONFIG_HOME"):
        return ""
    usual = f"{config()}/config.toml"
    return usual if os.path.exists(usual) else ""
