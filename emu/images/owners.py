"""Who owns the files of a guest's root, where the user who makes it may not give files away."""

from __future__ import annotations

from pathlib import Path

from accel.errors import Unavailable
from emu.linux.process import Process


class Owners:
    """Who owns files that are this user's, and which are devices."""

    def __init__(self) -> None:
        raise Unavailable("an image with a disk can only be made by root yet; use sudo, or busybox-arm64")

    def attend(self, process: Process, root: Path | None) -> None:
        """Before the start."""
