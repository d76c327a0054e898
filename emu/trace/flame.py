"""Profiles: stacks of function names with their number of samples, and a picture of them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from emu.trace.record import Record
    from emu.trace.symbols import Space


class Profile:
    """Samples of all processes together.  name: the file; folded stacks, or a picture if it ends in .svg."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.stacks: dict[tuple[str, ...], int] = {}

    def sample(self, space: Space, entry: Record, behind: Any) -> None:
        """One sample."""

    def write(self) -> None:
        """The file."""
