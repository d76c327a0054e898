"""What is mapped where in a process, and what it is called: symbols of ELF files.

Files are a guest's and may be wrong in every way: what cannot be read has no symbols.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Opener = Callable[[str], int]

_PT_LOAD, _SHT_SYMTAB, _SHT_DYNSYM, _STT_FUNC, _STT_GNU_IFUNC, _STT_NOTYPE = 1, 2, 11, 2, 10, 0
# Bytes of a file that are looked at, symbols of it, bytes of a name.
_MOST, _MOST_SYMBOLS, _LONGEST = 1 << 29, 1 << 21, 1024


class Image:
    """An ELF file's loads and its functions' names, sorted by address."""

    def __init__(self, data: bytes = b"") -> None:
        self.loads: list[tuple[int, int, int]] = []  # offset, bytes in the file, address
        self.entry = 0
        self._data = data
        self._named = False
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._names: list[str] = []
        try:
            self._parse_loads(data)
        except (struct.error, IndexError, ValueError):
            pass

    def _parse_loads(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or len(data) < 52:
            return
        wide = data[4] == 2
        order = ">" if data[5] == 2 else "<"
        if wide:
            self.entry, phoff = struct.unpack_from(order + "QQ", data, 24)
            phentsize, phnum = struct.unpack_from(order + "HH", data, 54)
        else:
            self.entry, phoff = struct.unpack_from(order + "II", data, 24)
            phentsize, phnum = struct.unpack_from(order + "HH", data, 42)
        for n in range(phnum):
            at = phoff + n * phentsize
            if wide:
                kind, _, offset, address, _, size = struct.unpack_from(order + "IIQQQQ", data, at)
            else:
                kind, offset, address, _, size = struct.unpack_from(order + "IIIII", data, at)
            if kind == _PT_LOAD:
                self.loads.append((offset, size, address))

    def _parse_symbols(self) -> None:
        """When somebody asks for a name: a large file takes time."""
        if self._named:
            return
        self._named = True
        found: dict[int, tuple[int, str]] = {}
        try:
            self._parse_sections(self._data, found)
        except (struct.error, IndexError, ValueError):
            pass
        self._data = b""
        for address in sorted(found):
            size, name = found[address]
            self._starts.append(address)
            self._ends.append(address + size)
            self._names.append(name)
        for n, start in enumerate(self._starts[:-1]):
            if self._ends[n] == start:  # hand-written code tells no size
                self._ends[n] = self._starts[n + 1]

    def _parse_sections(self, data: bytes, found: dict[int, tuple[int, str]]) -> None:
        if not self.loads:
            return
        wide = data[4] == 2
        order = ">" if data[5] == 2 else "<"
        arm = struct.unpack_from(order + "H", data, 18)[0] == 40
        shoff = struct.unpack_from(order + ("Q" if wide else "I"), data, 40 if wide else 32)[0]
        shentsize, shnum = struct.unpack_from(order + "HH", data, 58 if wide else 46)
        sections = []
        for n in range(shnum):
            at = shoff + n * shentsize
            if wide:
                _, kind, _, _, offset, size, link, _, _, entry = struct.unpack_from(
                    order + "IIQQQQIIQQ", data, at
                )
            else:
                _, kind, _, _, offset, size, link, _, _, entry = struct.unpack_from(
                    order + "IIIIIIIIII", data, at
                )
            sections.append((kind, offset, size, link, entry))
        # A .symtab has all that a .dynsym has.  A file of ours has one of each.
        tables = [each for each in sections if each[0] == _SHT_SYMTAB][:2]
        tables += [each for each in sections if each[0] == _SHT_DYNSYM][:2]
        for _, offset, size, link, _ in tables:
            if link < len(sections):
                self._symbols(data, order, wide, arm, (offset, size), sections[link][1:3], found)

    @staticmethod
    def _symbols(
        data: bytes,
        order: str,
        wide: bool,
        arm: bool,
        table: tuple[int, int],
        names: tuple[int, int],
        found: dict[int, tuple[int, str]],
    ) -> None:
        form = struct.Struct(order + ("IBBHQQ" if wide else "IIIBBH"))
        raw = data[table[0] : table[0] + min(table[1], _MOST_SYMBOLS * form.size)]
        text = data[names[0] : names[0] + names[1]]
        for symbol in form.iter_unpack(raw[: len(raw) // form.size * form.size]):
            if wide:
                name, info, _, section, value, size = symbol
            else:
                name, value, size, info, _, section = symbol
            kind = info & 15
            if section == 0 or kind not in (_STT_FUNC, _STT_GNU_IFUNC, _STT_NOTYPE) or not name:
                continue
            if arm and kind == _STT_FUNC:
                value &= ~1  # Thumb
            known = found.get(value)
            # A function with a size is better than a label, a global name better than a local one.
            if known is not None and (known[0] or not size):
                continue
            if kind == _STT_NOTYPE and (size == 0 and section >= 0xFF00):
                continue
            end = text.find(b"\0", name, name + _LONGEST)
            word = text[name : end if end >= 0 else name + _LONGEST]
            if not word or word[:1] == b"$":  # mapping symbols: $x, $d
                continue
            found[value] = size, printable(word.decode("utf-8", "replace"))

    def address(self, offset: int) -> int | None:
        """Where the file wants what is at an offset."""
        for start, size, address in self.loads:
            if start <= offset < start + size:
                return address + offset - start
        # Pages are mapped as a whole.
        for start, size, address in self.loads:
            if start & ~0xFFF <= offset < (start + size + 0xFFF) & ~0xFFF:
                return address + offset - start
        return None

    def name(self, address: int) -> tuple[str, int] | None:
        """The function that an address (the file's) lies in, and how far."""
        self._parse_symbols()
        n = bisect_right(self._starts, address) - 1
        if n < 0 or address >= self._ends[n] > self._starts[n]:
            return None
        return self._names[n], address - self._starts[n]

    def find(self, name: str) -> list[tuple[int, int]]:
        """First address and end of the functions of that name."""
        self._parse_symbols()
        return [
            (start, max(end, start + 1))
            for start, end, each in zip(self._starts, self._ends, self._names, strict=True)
            if each == name
        ]


def printable(name: str) -> str:
    """A guest's name as a terminal and a folded stack can have it."""
    return "".join(c if c.isprintable() and c != ";" else "?" for c in name)


class Images:
    """Files that were read once; open: a descriptor for a guest's path, negative where there is none."""

    def __init__(self, open: Opener) -> None:
        self._open = open
        self._known: dict[str, Image] = {}

    def of(self, path: str) -> Image:
        image = self._known.get(path)
        if image is None:
            image = self._known[path] = Image(self._read(path))
        return image

    def _read(self, path: str) -> bytes:
        fd = self._open(path)
        if fd < 0:
            return b""
        with open(fd, "rb") as file:
            try:
                return file.read(_MOST) if os.fstat(fd).st_size <= _MOST else b""
            except OSError:
                return b""


class Area:
    """A part of a file that is mapped."""

    __slots__ = ("end", "offset", "path", "prot", "start")

    def __init__(self, start: int, end: int, offset: int, path: str, prot: int) -> None:
        self.start, self.end, self.offset, self.path, self.prot = start, end, offset, path, prot


class Module:
    """A file as a whole where it is mapped: drcov's and a picture's unit."""

    __slots__ = ("base", "end", "path")

    def __init__(self, base: int, end: int, path: str) -> None:
        self.base, self.end, self.path = base, end, path


class Space:
    """The files that a process has mapped, as it has told."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.areas: list[Area] = []
        self._starts: list[int] = []
        self._names: dict[int, tuple[str, int, str] | None] = {}
        self._texts: dict[int, str] = {}

    def copy(self) -> Space:
        """What a forked child begins with."""
        made = Space(self.images)
        made._set(list(self.areas))
        return made

    def _set(self, areas: list[Area]) -> None:
        self.areas = sorted(areas, key=lambda area: area.start)
        self._starts = [area.start for area in self.areas]
        self._names.clear()
        self._texts.clear()

    def unmap(self, start: int, end: int) -> None:
        """Nothing that was there is any more."""
        first = bisect_right(self._starts, start)
        if (first == 0 or self.areas[first - 1].end <= start) and (
            first == len(self.areas) or self.areas[first].start >= end
        ):
            return
        kept = []
        for area in self.areas:
            if area.end <= start or area.start >= end:
                kept.append(area)
                continue
            if area.start < start:
                kept.append(Area(area.start, start, area.offset, area.path, area.prot))
            if area.end > end:
                offset = area.offset + end - area.start
                kept.append(Area(end, area.end, offset, area.path, area.prot))
        self._set(kept)

    def map(self, area: Area) -> None:
        self.unmap(area.start, area.end)
        self._set([*self.areas, area])

    def at(self, address: int) -> Area | None:
        n = bisect_right(self._starts, address) - 1
        return self.areas[n] if n >= 0 and address < self.areas[n].end else None

    def locate(self, address: int) -> tuple[str, int, str] | None:
        """The function at an address, the distance from its start, and the file; "": none that is known."""
        try:
            return self._names[address]
        except KeyError:
            pass
        found = None
        area = self.at(address)
        if area is not None:
            image = self.images.of(area.path)
            inside = image.address(area.offset + address - area.start)
            name = image.name(inside) if inside is not None else None
            found = (*name, area.path) if name else ("", address - self.module(area).base, area.path)
        if len(self._names) > 1 << 18:
            self._names.clear()
        self._names[address] = found
        return found

    def text(self, address: int) -> str:
        """Where an address is, as people write it: main+0x10, or busybox+0x1234."""
        text = self._texts.get(address)
        if text is None:
            if len(self._texts) > 1 << 18:
                self._texts.clear()
            text = self._texts[address] = self._text(address)
        return text

    def _text(self, address: int) -> str:
        found = self.locate(address)
        if found is None:
            return ""
        name, distance, path = found
        name = name or printable(os.path.basename(path))  # noqa: PTH119
        return f"{name}+{distance:#x}" if distance else name

    def module(self, area: Area) -> Module:
        """All of a file around one of its areas, which follow each other."""
        n = self.areas.index(area)
        first = last = n
        while first > 0 and self.areas[first].offset and self.areas[first - 1].path == area.path:
            first -= 1
        while (
            last + 1 < len(self.areas)
            and self.areas[last + 1].path == area.path
            and self.areas[last + 1].offset
        ):
            last += 1
        base = self.areas[first].start
        return Module(base, self.areas[last].end, area.path)

    def places(self, name: str) -> list[tuple[int, int]]:
        """Where the functions of a name are at present: first addresses and ends."""
        found = []
        for area in self.areas:
            if not area.prot & 4:
                continue
            image = self.images.of(area.path)
            for start, end in image.find(name):
                for offset, size, address in image.loads:
                    if address <= start < address + size:
                        at = area.start + (offset + start - address) - area.offset
                        if area.start <= at < area.end:
                            found.append((at, at + end - start))
        return found
