"""What is told of a snapshot that cannot be had."""

from __future__ import annotations

from accel.errors import EmuError


class SnapshotError(EmuError):
    """A snapshot that cannot be written, or is damaged, of another release, or of another machine."""
