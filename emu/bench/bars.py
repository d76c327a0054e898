"""Bars with their spread, as SVG within a page: colours and sizes are the page's (emu.bench.page)."""

from __future__ import annotations

from emu.bench.result import Figure

# A bar's picture is so many units wide and high; it is stretched to what the window has.
WIDTH, HEIGHT = 1000, 20


def bar(found: Figure, most: float, engine: str, one: float | None = None) -> str:
    """A bar to the median, a line from the least to the most, and where 1 is.

    most: the time at the right edge; one: the reference's time, if there is one.
    """

    def at(value: float) -> str:
        return f"{WIDTH * min(value, most) / most:.2f}" if most > 0 else "0"

    left, right, end = at(found.low), at(found.high), at(found.median)
    parts = [f'<rect class="bar {engine}" x="0" y="3" width="{end}" height="{HEIGHT - 6}"/>']
    if one is not None:
        parts.append(f'<line class="one" x1="{at(one)}" x2="{at(one)}" y1="0" y2="{HEIGHT}"/>')
    middle = HEIGHT // 2
    parts.append(f'<line class="spread" x1="{left}" x2="{right}" y1="{middle}" y2="{middle}"/>')
    parts += [f'<line class="spread" x1="{x}" x2="{x}" y1="6" y2="{HEIGHT - 6}"/>' for x in (left, right)]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
