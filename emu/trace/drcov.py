"""Coverage as DynamoRIO's drcov writes it, version 2: a table of modules, and of blocks within them.

Lighthouse (IDA, Binary Ninja), Cutter, Dragondance (Ghidra) and others read it.  A block is 8 bytes: its
distance from the module's base (32 bits), its size and its module's number (16 bits each).
"""

from __future__ import annotations

import struct
from bisect import bisect_left

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.trace.symbols import Space

_BLOCK = struct.Struct("<IHH")
_MOST_MODULES = 0xFFFE


class _Process:
    def __init__(self, path: str) -> None:
        self.path = path
        self.modules: dict[tuple[str, int], list[int]] = {}  # file and base: number, end, entry
        self.blocks: dict[int, dict[int, int]] = {}  # by module: distance and size
        self.news: dict[int, int] = {}  # address and size, of which modules are not known yet


class Coverage:
    """Blocks by process.  name: the file; %p in it is the process's id.

    Without %p the program's own process writes the file, and each child one with .PID behind its name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._processes: dict[int, _Process] = {}

    def _process(self, pid: int) -> _Process:
        found = self._processes.get(pid)
        if found is None:
            if "%p" in self._name:
                path = self._name.replace("%p", str(pid))
            else:
                path = f"{self._name}.{pid}" if self._processes else self._name
            found = self._processes[pid] = _Process(path)
        return found

    def begin(self, pid: int) -> None:
        """The program's own process, whether it executes anything or not."""
        self._process(pid)

    def news(self, pid: int) -> dict[int, int]:
        """Where a process's blocks are put, address and size, until settle()."""
        return self._process(pid).news

    def settle(self, pid: int, space: Space) -> None:
        """Finds the modules of blocks so far; before what is mapped changes."""
        process = self._process(pid)
        if not process.news:
            return
        addresses = sorted(process.news)
        for area in space.areas:
            first = bisect_left(addresses, area.start)
            last = bisect_left(addresses, area.end, first)
            if first == last:
                continue
            module = space.module(area)
            key = (module.path, module.base)
            known = process.modules.get(key)
            if known is None:
                if len(process.modules) >= _MOST_MODULES:
                    continue
                image = space.images.of(module.path)
                bias = module.base - min((address & ~0xFFF for _, _, address in image.loads), default=0)
                known = process.modules[key] = [len(process.modules), module.end, image.entry + bias]
            known[1] = max(known[1], module.end)
            base, blocks, news = module.base, process.blocks.setdefault(known[0], {}), process.news
            blocks.update({at - base: news[at] for at in addresses[first:last]})
        process.news.clear()  # what is left is in no file

    def write(self) -> list[str]:
        """All files; returns their names.  Raises EmuError."""
        for process in self._processes.values():
            try:
                with open(process.path, "wb") as file:
                    file.write(_bytes(process))
            except OSError as error:
                text = f"{process.path}: {error.strerror}; the coverage is not written"
                raise EmuError(f"{text}; give --coverage a file that can be") from None
        return [process.path for process in self._processes.values()]


def _bytes(process: _Process) -> bytes:
    lines = [
        "DRCOV VERSION: 2",
        "DRCOV FLAVOR: emu",
        f"Module Table: version 2, count {len(process.modules)}",
        "Columns: id, base, end, entry, path",
    ]
    for (path, base), (number, end, entry) in process.modules.items():
        name = "".join(c if c.isprintable() else "?" for c in path)  # lines of UTF-8, whatever the guest does
        lines.append(f"{number:3}, {base:#018x}, {end:#018x}, {entry & (1 << 64) - 1:#018x}, {name}")
    blocks = b"".join(
        _BLOCK.pack(distance, min(size, 0xFFFF), number)
        for number, found in process.blocks.items()
        for distance, size in found.items()
        if distance < 1 << 32
    )
    lines.append(f"BB Table: {len(blocks) // _BLOCK.size} bbs")
    return "\n".join([*lines, ""]).encode() + blocks
