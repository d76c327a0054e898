"""Profiles: folded stacks, as flamegraph.pl and speedscope read them, and a picture of them.

A line is the functions of a stack, outermost first, with ; between, and how many samples there were.
"""

from __future__ import annotations

import os
import struct
from html import escape

from accel.errors import EmuError
from emu.trace.symbols import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from emu.trace.record import Record
    from emu.trace.symbols import Space

# enum emu_sampled of accel/native/engine.h: what is on top of the guest's own.
_ABOVE = {2: "[translation]", 3: "[system call]"}


class Profile:
    """Samples of all processes together.  name: the file; folded stacks, or a picture if it ends in .svg."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.stacks: dict[tuple[str, ...], int] = {}

    def sample(self, space: Space, entry: Record, behind: Any) -> None:
        """One record of a sample."""
        at, count, times, link, kind = entry[9], entry[10], entry[11], entry[12], entry[7]
        callers = list(struct.unpack_from(f"<{count}Q", behind)) if count * 8 <= len(behind) else []
        top = _name(space, at) if kind != 2 else ""
        # The register of return addresses tells the caller while the function has made no frame for it.
        if link and _name(space, link - 1) not in ("", top) and link not in callers[:1]:
            callers.insert(0, link)
        names = [top] if top else []
        for address in callers:
            name = _name(space, address - 1)
            if not name:
                break  # no code: the frame pointer is something else here
            names.append(name)
        if kind in _ABOVE:
            names.insert(0, _ABOVE[kind])
        if not names:
            names = ["[unknown]"]
        stack = tuple(reversed(names))
        self.stacks[stack] = self.stacks.get(stack, 0) + times

    def write(self) -> None:
        """The file.  Raises EmuError."""
        text = svg(self.stacks) if self._name.endswith(".svg") else folded(self.stacks)
        try:
            with open(self._name, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except OSError as error:
            text = f"{self._name}: {error.strerror}; the profile is not written"
            raise EmuError(f"{text}; give --profile a file that can be") from None


def _name(space: Space, address: int) -> str:
    found = space.locate(address)
    if found is None:
        return ""
    return found[0] or f"[{printable(os.path.basename(found[2]))}]"  # noqa: PTH119


def folded(stacks: dict[tuple[str, ...], int]) -> str:
    """One line a stack, in the order of the alphabet."""
    return "".join(f"{';'.join(stack)} {count}\n" for stack, count in sorted(stacks.items()))


class _Frame:
    """A function in a stack, and what it has called."""

    def __init__(self) -> None:
        self.count = 0
        self.callees: dict[str, _Frame] = {}


_WIDTH, _ROW, _MARGIN, _LETTER = 1200, 18, 12, 7
_DEEPEST = 128

_SCRIPT = """
var svg = document.documentElement, all = svg.querySelectorAll("g.f"), W = %d;
function zoom(x, w) {
  all.forEach(function (g) {
    var a = (g.dataset.x - x) / w * W, b = g.dataset.w / w * W, r = g.querySelector("rect");
    var t = g.querySelector("text"), shown = a < W - 1e-6 && a + b > 1e-6;
    var left = Math.max(a, 0), right = Math.min(a + b, W), n = Math.floor((right - left - 6) / %d);
    g.style.display = shown && right - left > 0.2 ? "" : "none";
    r.setAttribute("x", left + %d); r.setAttribute("width", Math.max(right - left - 0.5, 0.1));
    t.setAttribute("x", left + %d + 3);
    var name = g.dataset.n;
    t.textContent = n < 3 ? "" : name.length > n ? name.slice(0, n - 1) + "\\u2026" : name;
  });
}
all.forEach(function (g) {
  g.addEventListener("click", function () { zoom(+g.dataset.x, +g.dataset.w); });
});
"""


def svg(stacks: dict[tuple[str, ...], int]) -> str:
    """A flame graph that needs nothing else: a click on a function shows it and what it called, wider."""
    root = _Frame()
    for stack, count in stacks.items():
        root.count += count
        frame = root
        for name in stack[:_DEEPEST]:
            frame = frame.callees.setdefault(name, _Frame())
            frame.count += count
    deepest = max((min(len(stack), _DEEPEST) for stack in stacks), default=0)
    height = (deepest + 1) * _ROW + 2 * _MARGIN + 24
    whole = max(root.count, 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH + 2 * _MARGIN}" height="{height}" '
        f'viewBox="0 0 {_WIDTH + 2 * _MARGIN} {height}" font-family="monospace" font-size="12">',
        '<rect width="100%" height="100%" fill="#fffdf8"/>',
        f'<text x="{_MARGIN}" y="{_MARGIN + 8}" fill="#333">{root.count} samples; '
        "a click on a function makes it wider</text>",
    ]
    level = [("all", root, 0)]
    depth = 0
    while level:
        following = []
        y = height - _MARGIN - (depth + 1) * _ROW
        for name, frame, start in level:
            x, width = start / whole * _WIDTH, frame.count / whole * _WIDTH
            if width >= 0.1:
                parts.append(_box(name, frame.count, whole, (x, y, width), (start, frame.count)))
            at = start
            for callee, below in sorted(frame.callees.items()):
                following.append((callee, below, at))
                at += below.count
        level = following
        depth += 1
    script = _SCRIPT % (_WIDTH, _LETTER, _MARGIN, _MARGIN)
    return "\n".join([*parts, f"<script><![CDATA[{script}]]></script>", "</svg>\n"])


def _box(name: str, count: int, whole: int, place: tuple[float, float, float], part: tuple[int, int]) -> str:
    x, y, width = place
    letters = int((width - 6) / _LETTER)
    shown = "" if letters < 3 else name if len(name) <= letters else name[: letters - 1] + "\u2026"
    # The same function has the same colour in every picture.
    shade = sum(ord(letter) * (n + 1) for n, letter in enumerate(name))
    hue, light = (210, 82) if name.startswith("[") else (12 + shade % 38, 66 + shade // 38 % 12)
    text = f"{name}: {count} samples, {100 * count / whole:.1f} %"
    return (
        f'<g class="f" data-n="{escape(name)}" data-x="{part[0] / whole:.9f}" data-w="{part[1] / whole:.9f}">'
        f"<title>{escape(text)}</title>"
        f'<rect x="{x + _MARGIN:.2f}" y="{y:.2f}" width="{max(width - 0.5, 0.1):.2f}" height="{_ROW - 1}" '
        f'rx="1" fill="hsl({hue} 80% {light}%)"/>'
        f'<text x="{x + _MARGIN + 3:.2f}" y="{y + 13:.2f}" fill="#222">{escape(shown)}</text></g>'
    )
