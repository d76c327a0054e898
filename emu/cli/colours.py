"""Whether what is written may have colours."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def colourful(stream: TextIO | None) -> bool:
    """Whether it goes to a terminal that shows colours, to somebody who wants them (no-color.org)."""
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    return os.environ.get("TERM", "dumb") != "dumb" and stream.isatty()
