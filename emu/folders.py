"""Where emu keeps what is its user's: the folders of the XDG Base Directory Specification.

    cache()     $XDG_CACHE_HOME/emu, ~/.cache/emu            what can be fetched or made again
    data()      $XDG_DATA_HOME/emu, ~/.local/share/emu       guests with their changes
    config()    $XDG_CONFIG_HOME/emu, ~/.config/emu          config.toml
    state()     $XDG_STATE_HOME/emu, ~/.local/state/emu      snapshots, crash reports
    runtime()   $XDG_RUNTIME_DIR/emu, /tmp/emu-UID           sockets of running machines

A variable that is no absolute path counts as none, as the specification has it.  Texts, not Paths: they stand
on the way of every machine's start.
"""

from __future__ import annotations

import os


def cache() -> str:
    """What can be fetched or made again."""
    return _below("XDG_CACHE_HOME", ".cache")


def data() -> str:
    """What is the user's and cannot be made again."""
    return _below("XDG_DATA_HOME", ".local/share")


def config() -> str:
    """What the user has written."""
    return _below("XDG_CONFIG_HOME", ".config")


def state() -> str:
    """What lasts, but could be lost."""
    return _below("XDG_STATE_HOME", ".local/state")


def runtime() -> str:
    """What is gone with the session; not below a home, for others may share that."""
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{named}/emu" if named.startswith("/") else f"/tmp/emu-{os.getuid()}"


def _below(variable: str, usual: str) -> str:
    named = os.environ.get(variable, "")
    return f"{named}/emu" if named.startswith("/") else os.path.join(os.path.expanduser("~"), usual, "emu")


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
