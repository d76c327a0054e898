"""emu-system-*, started as libvirt and people start it: the installed command, little in its environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# All that libvirt leaves there, and the cache of guests.
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": os.environ.get("HOME", "/")}


def program(arch="aarch64"):
    """The installed command."""
    path = Path(sys.executable).parent / f"emu-system-{arch}"
    if not path.exists():
        pytest.skip(f"{path.name} is not installed beside this Python; sh scripts/test does it")
    return str(path)


def run(*words, arch="aarch64", timeout=60, **named):
    """Runs it to its end."""
    named = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, **named}
    return subprocess.run(
        [program(arch), *map(str, words)], env=ENVIRONMENT, timeout=timeout, check=False, **named
    )


def start(*words, arch="aarch64", **named):
    """Starts it."""
    return subprocess.Popen([program(arch), *map(str, words)], env=ENVIRONMENT, **named)
