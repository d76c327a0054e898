"""Integer expressions of the human monitor: numbers, $registers, parentheses and C's operators."""

from __future__ import annotations

import re
from collections.abc import Callable

from accel.errors import EmuError

TOKEN = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|[0-9]+)|\$(?P<register>[A-Za-z_][\w.]*)|(?P<sign><<|>>|[-+*/%&|^~()]))"
)
# From the weakest on.
BINARY: tuple[dict[str, Callable[[int, int], int]], ...] = (
    {"|": int.__or__},
    {"^": int.__xor__},
    {"&": int.__and__},
    {"<<": lambda a, b: a << (b & 63), ">>": lambda a, b: a >> (b & 63)},
    {"+": int.__add__, "-": int.__sub__},
    {"*": int.__mul__, "/": lambda a, b: a // _divisor(b), "%": lambda a, b: a % _divisor(b)},
)
MASK = (1 << 64) - 1
DEEPEST = 50


class BadExpression(EmuError):
    """What is no expression."""


def _divisor(value: int) -> int:
    if value == 0:
        raise BadExpression("a division by zero")
    return value


class _Parser:
    def __init__(self, text: str, register: Callable[[str], int]) -> None:
        self.text = text
        self.register = register
        self.at = 0
        self.depth = 0

    def sign(self, among: object) -> str | None:
        """The sign that comes next, if it is one of those."""
        token = TOKEN.match(self.text, self.at)
        sign = token["sign"] if token else None
        if token is None or sign is None or sign not in among:  # type: ignore[operator]
            return None
        self.at = token.end()
        return sign

    def binary(self, level: int) -> int:
        if level == len(BINARY):
            return self.unary()
        value = self.binary(level + 1)
        while True:
            before = self.at
            sign = self.sign(BINARY[level])
            if sign is None:
                return value
            # "x/4 $pc - 8" goes on, "i /b 1 -n" does not: a blank before a sign and none behind ends it.
            if self.text[before : before + 1].isspace() and not self.text[self.at : self.at + 1].isspace():
                self.at = before
                return value
            value = BINARY[level][sign](value, self.binary(level + 1)) & MASK

    def unary(self) -> int:
        self.depth += 1
        if self.depth > DEEPEST:
            raise BadExpression(f"an expression of more than {DEEPEST} levels")
        try:
            sign = self.sign(("-", "+", "~", "("))
            if sign == "(":
                value = self.binary(0)
                if self.sign((")",)) is None:
                    raise BadExpression("a parenthesis is not closed; add )")
                return value
            if sign is not None:
                value = self.unary()
                return {"-": -value, "+": value, "~": ~value}[sign] & MASK
        finally:
            self.depth -= 1
        token = TOKEN.match(self.text, self.at)
        if token is None or token["sign"] is not None:
            word = self.text[self.at :].split()[:1] or ["the line's end"]
            raise BadExpression(f"{word[0]} is no number; give 64, 0x40 or $register")
        self.at = token.end()
        if token["register"] is not None:
            return self.register(token["register"]) & MASK
        number = token["number"]
        return int(number, 16 if number[:2] in ("0x", "0X") else 10) & MASK


def evaluate(text: str, register: Callable[[str], int]) -> tuple[int, str]:
    """The value of the expression that the text begins with, in 64 bits, and what of the text is left.

    Raises BadExpression, and what `register` raises.
    """
    parser = _Parser(text, register)
    value = parser.binary(0)
    left = text[parser.at :]
    if left and not left[0].isspace():
        raise BadExpression(f"{left.split()[0]} follows an expression; leave a blank or an operator between")
    return value, left
