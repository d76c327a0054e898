"""JSON values out of a stream of bytes, as they become complete; no newline between them is needed.

Sizes and depths have limits, so what a client sends costs bounded memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# Bytes of one value, and how deep its lists and objects may lie in each other.
LONGEST = 16 << 20
DEEPEST = 64

OUTSIDE = re.compile(rb'["{}\[\]]')
INSIDE = re.compile(rb'["\\]')
BLANK = re.compile(rb"[ \t\r\n]*")
# A word or number at the top, where only lists, objects and strings can be told from what follows them.
WORD = re.compile(rb"[-+.\w]+")


class Malformed(ValueError):
    """What is no JSON.  fatal: what follows is not to be looked at any more."""

    def __init__(self, text: str, *, fatal: bool = False) -> None:
        super().__init__(text)
        self.fatal = fatal


class JsonStream:
    """Takes bytes by feed(), gives values by values()."""

    def __init__(self, longest: int = LONGEST, deepest: int = DEEPEST) -> None:
        self.longest = longest
        self.deepest = deepest
        self._data = bytearray()
        self._at = 0  # what of the data has been looked at
        self._depth = 0
        self._string = False
        self._skipping = False  # after an error, up to the end of the line

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._data += data

    def values(self) -> Iterator[Any]:
        """The values that are complete.

        A Malformed in their place is what an iterator cannot raise and go on after; after a fatal one the
        stream is of no use.
        """
        while True:
            if self._skipping:
                end = self._data.find(b"\n")
                if end < 0:
                    self._data.clear()
                    return
                del self._data[: end + 1]
                self._skipping = False
            try:
                piece = self._next()
                if piece is None:
                    return
                value = decode(piece)
            except Malformed as error:
                yield error
                if error.fatal:
                    return
                continue
            yield value

    def _next(self) -> bytes | None:
        """The bytes of the next value, taken from the data; None while it is not complete."""
        data = self._data
        if self._at == 0:
            blank = BLANK.match(data)
            assert blank is not None
            del data[: blank.end()]
            if not data:
                return None
            if data[0] not in b'{["':
                return self._word()
        while True:
            found = (INSIDE if self._string else OUTSIDE).search(data, self._at)
            if found is None:
                self._at = len(data)
                break
            at = found.start()
            character = data[at]
            self._at = at + 1
            if self._string:
                if character == 0x5C:  # a backslash: the next byte is the string's
                    if at + 1 == len(data):
                        self._at = at
                        break
                    self._at = at + 2
                else:
                    self._string = False
            elif character == 0x22:
                self._string = True
            elif character in b"{[":
                self._depth += 1
                if self._depth > self.deepest:
                    raise Malformed(f"JSON parse error, more than {self.deepest} levels deep", fatal=True)
            else:
                self._depth -= 1
            if self._depth <= 0 and not self._string:
                return self._take(self._at)
        if len(data) > self.longest:
            raise Malformed(f"JSON parse error, a value of more than {self.longest} bytes", fatal=True)
        return None

    def _word(self) -> bytes | None:
        word = WORD.match(self._data)
        if word is None:
            self._skipping = True
            raise Malformed(f"JSON parse error, {chr(self._data[0])!a} begins no value")
        if word.end() == len(self._data):
            if word.end() > 64:
                raise Malformed("JSON parse error, a word of more than 64 bytes", fatal=True)
            return None  # it may go on
        return self._take(word.end())

    def _take(self, end: int) -> bytes:
        piece = bytes(self._data[:end])
        del self._data[:end]
        self._at = self._depth = 0
        self._string = False
        if len(piece) > self.longest:
            raise Malformed(f"JSON parse error, a value of more than {self.longest} bytes", fatal=True)
        return piece


def decode(piece: bytes) -> Any:
    """The value that the bytes are.  Raises Malformed."""
    try:
        text = piece.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"JSON parse error, invalid UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except RecursionError:
        raise Malformed("JSON parse error, too deep", fatal=True) from None
    except json.JSONDecodeError as error:
        raise Malformed(f"JSON parse error, {error.msg} at character {error.pos}") from None
    except ValueError as error:  # a number of thousands of digits; a name that comes twice
        raise Malformed(f"JSON parse error, {error}") from None
    if "\\u" in text:
        plain = json.dumps(value, ensure_ascii=False)
        if "\\u0000" in plain.replace("\\\\", ""):
            raise Malformed("JSON parse error, \\u0000 in a string")
        try:
            plain.encode()
        except UnicodeEncodeError:
            raise Malformed("JSON parse error, half of a surrogate pair in a string") from None
    return value


def _no_constant(word: str) -> Any:
    raise ValueError(f"invalid keyword '{word}'")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has a name twice")
    return made
