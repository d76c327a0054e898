"""Tables of encodings: which instruction a word is, and its fields.

`load("aarch64")` reads aarch64.decode, in which a line is an encoding:

    NAME  tokens...  [{ constraint }]  [unpredictable { condition }]  [+feature [if condition]]

The tokens go from the most significant bit to the least and have 32 bits together: `0` and `1` are fixed,
`name:width` is a field, `(01)` are bits that should be so but that nobody looks at.  Where the constraint is
false the word is not of this encoding; where it is unpredictable, the manual lets CPUs differ.  The feature
is what the CPU must have besides the base architecture (where the condition is true, if there is one).
Constraints and conditions are expressions of Python over the fields: and, or, not, comparisons, in (...),
+ - & | << >>, integers.

A table holds no two lines that a word could both be: `load` checks it, with the constraints.

Errors:

    ValueError
     +-- TableError     a line breaks the grammar, or two lines overlap; the message names the file and both
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

HERE = Path(__file__).parent
BITS = 32
# More free bits under the constraints of two lines than this are not tried one by one.
_MOST_BITS = 20
_LINE = re.compile(
    r"(?P<name>[A-Z]\w*)\s+(?P<tokens>[^{+]+?)\s*(?:\{(?P<constraint>[^}]*)\}\s*)?"
    r"(?:unpredictable\s*\{(?P<open>[^}]*)\}\s*)?"
    r"(?:\+(?P<feature>\w+)(?:\s+if\s+(?P<condition>.+?))?)?\s*"
)
_FIELD = re.compile(r"([A-Za-z]\w*):([1-9]\d*)")
_FIXED = re.compile(r"(\()?([01]+)(?(1)\))")
_OPERATORS = (ast.Add, ast.Sub, ast.BitAnd, ast.BitOr, ast.LShift, ast.RShift)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class TableError(ValueError):
    """A table of encodings breaks the grammar, or two of its lines overlap."""


class Field:
    """Bits of a word: `width` of them, the lowest one at `shift`."""

    __slots__ = ("name", "shift", "width")

    def __init__(self, name: str, shift: int, width: int) -> None:
        self.name = name
        self.shift = shift
        self.width = width

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.shift

    def __repr__(self) -> str:
        return f"{self.name}:{self.width}@{self.shift}"


class Encoding:
    """One line of a table.

    mask, value   the fixed bits: a word is of this encoding only if word & mask == value
    should        the bits in parentheses that are 1: a word that a person writes has them
    fields        by name, in the order of the line
    constraint    parsed, or None if all values of the fields are allowed
    open          when the word is unpredictable, parsed, or None for never
    feature       "" for the base architecture
    """

    __slots__ = (
        "_allows",
        "_needs",
        "_open",
        "constraint",
        "feature",
        "fields",
        "mask",
        "name",
        "open",
        "should",
        "value",
        "where",
    )

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        match = _LINE.fullmatch(text)
        if match is None:
            raise TableError(f"{where}: expected `NAME tokens [{{ constraint }}] [+feature]`, got {text!r}")
        self.name = match["name"]
        self.feature = match["feature"] or ""
        self.fields: dict[str, Field] = {}
        self.mask = self.value = self.should = 0
        self._tokens(match["tokens"].split())
        self.constraint = self._expression(match["constraint"])
        self._allows = self._predicate(self.constraint, True)
        self.open = self._expression(match["open"])
        self._open = self._predicate(self.open, False)
        self._needs = self._predicate(self._expression(match["condition"]), True)

    def __repr__(self) -> str:
        return f"<{self.name} {self.where}>"

    def matches(self, word: int) -> bool:
        """Whether a word is of this encoding."""
        return word & self.mask == self.value and self._allows(word)

    def is_unpredictable(self, word: int) -> bool:
        """Whether the manual lets CPUs differ in what a word of this encoding does."""
        return self._open(word)

    def feature_of(self, word: int) -> str:
        """The feature that a word of this encoding needs, "" for the base architecture."""
        return self.feature if self._needs(word) else ""

    def extract(self, word: int) -> dict[str, int]:
        """The fields' values in a word."""
        return {f.name: (word & f.mask) >> f.shift for f in self.fields.values()}

    def assemble(self, **values: int) -> int:
        """The word with these values of fields, 0 for the others.  Raise ValueError if it is none of ours."""
        word = self.value | self.should
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"{self.name} has no field {name}: it has {', '.join(self.fields)}")
            field = self.fields[name]
            if value >> field.width:
                raise ValueError(f"{self.name}: {name}={value} does not fit in {field.width} bits")
            word |= value << field.shift
        if not self._allows(word):
            raise ValueError(f"{self.name}: {values} is not allocated")
        return word

    def bits_of(self, expression: ast.expr | None) -> int:
        """The bits of a word on which an expression over the fields depends."""
        bits = 0
        for node in ast.walk(expression) if expression else ():
            if isinstance(node, ast.Name):
                bits |= self.fields[node.id].mask
        return bits

    def allows(self, word: int) -> bool:
        """Whether the constraint is true, whatever the fixed bits are."""
        return self._allows(word)

    def _tokens(self, tokens: list[str]) -> None:
        left = BITS
        for token in tokens:
            if match := _FIELD.fullmatch(token):
                name, width = match[1], int(match[2])
                left -= width
                if name in self.fields:
                    raise TableError(f"{self.where}: {self.name} has two fields {name}")
                self.fields[name] = Field(name, left, width)
            elif match := _FIXED.fullmatch(token):
                left -= len(match[2])
                bits = int(match[2], 2) << max(left, 0)
                if match[1]:
                    self.should |= bits
                else:
                    self.mask |= ((1 << len(match[2])) - 1) << max(left, 0)
                    self.value |= bits
            else:
                raise TableError(f"{self.where}: {self.name} has a token that is none: {token!r}")
        if left:
            raise TableError(f"{self.where}: {self.name} has {BITS - left} bits, not {BITS}")

    def _expression(self, text: str | None) -> ast.expr | None:
        if text is None:
            return None
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise TableError(f"{self.where}: {self.name}: {text.strip()!r}: {error.msg}") from None
        self._check(tree, text)
        return tree

    def _check(self, node: ast.expr, text: str) -> None:
        """Raise TableError if an expression holds what no language we write it in has."""
        match node:
            case ast.Name(id=name) if name in self.fields:
                return
            case ast.Constant(value=int()):
                return
            case ast.BoolOp(values=values):
                parts = values
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                parts = [operand]
            case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, _OPERATORS):
                parts = [left, right]
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[ast.Tuple(elts=elements)]):
                parts = [left, *elements]
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if isinstance(
                operator, _COMPARISONS
            ):
                parts = [left, right]
            case _:
                raise TableError(
                    f"{self.where}: {self.name}: {ast.unparse(node)!r} in {text.strip()!r} "
                    "is neither a field, an integer, nor one of the operators"
                )
        for part in parts:
            self._check(part, text)

    def _predicate(self, tree: ast.expr | None, default: bool) -> Callable[[int], bool]:
        """The expression as a function of the word; `default` always, if there is no expression."""
        if tree is None:
            return lambda _word: default
        fields = self.fields

        class Shifted(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.expr:
                field = fields[node.id]
                text = f"(word >> {field.shift} & {(1 << field.width) - 1})"
                return ast.parse(text, mode="eval").body

        copy = ast.parse(ast.unparse(tree), mode="eval")
        text = ast.unparse(Shifted().visit(copy))
        return eval(f"lambda word: bool({text})")  # type: ignore[no-any-return]


class Table:
    """The encodings of an ISA, in the order of the file."""

    __slots__ = ("_buckets", "_by_name", "encodings")

    def __init__(self, encodings: list[Encoding]) -> None:
        self.encodings = tuple(encodings)
        self._by_name = {encoding.name: encoding for encoding in encodings}
        if len(self._by_name) != len(encodings):
            seen: dict[str, Encoding] = {}
            for encoding in encodings:
                first = seen.setdefault(encoding.name, encoding)
                if first is not encoding:
                    raise TableError(f"{encoding.where}: {encoding.name} stands at {first.where} already")
        self._buckets: dict[int, list[Encoding]] = {}

    def __getitem__(self, name: str) -> Encoding:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Encoding]:
        return iter(self.encodings)

    def __len__(self) -> int:
        return len(self.encodings)

    def decode(self, word: int) -> Encoding | None:
        """The encoding of a word, None if it is not allocated."""
        bucket = self._buckets.get(word >> 20)
        if bucket is None:
            high = word & 0xFFF00000
            bucket = [e for e in self.encodings if not (high ^ e.value) & e.mask & 0xFFF00000]
            self._buckets[word >> 20] = bucket
        for encoding in bucket:
            if encoding.matches(word):
                return encoding
        return None

    def check(self) -> None:
        """Raise TableError if a word could be of two encodings, or an encoding has no word."""
        for encoding in self.encodings:
            if encoding.constraint is not None and common_word(encoding, encoding) is None:
                raise TableError(f"{encoding.where}: {encoding.name}: the constraint is never true")
        for one, other in combinations(self.encodings, 2):
            if (one.value ^ other.value) & one.mask & other.mask:
                continue
            word = common_word(one, other)
            if word is not None:
                raise TableError(
                    f"{one.where}: {one.name} overlaps {other.name} ({other.where}): {word:#010x} is both"
                )


def common_word(one: Encoding, other: Encoding) -> int | None:
    """A word that is of both encodings, whose fixed bits agree; None if there is none."""
    fixed = one.mask | other.mask
    base = one.value | other.value
    free = (one.bits_of(one.constraint) | other.bits_of(other.constraint)) & ~fixed
    positions = [bit for bit in range(BITS) if free >> bit & 1]
    if len(positions) > _MOST_BITS:
        raise TableError(
            f"{one.where}: the constraints of {one.name} and {other.name} depend on {len(positions)} bits: "
            f"no more than {_MOST_BITS} can be checked"
        )
    for number in range(1 << len(positions)):
        word = base
        for index, bit in enumerate(positions):
            word |= (number >> index & 1) << bit
        if one.allows(word) and other.allows(word):
            return word
    return None


def parse(text: str, name: str) -> Table:
    """The table of a text; `name` stands in messages.  Raise TableError."""
    encodings = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line:
            encodings.append(Encoding(line, f"{name}:{number}"))
    table = Table(encodings)
    table.check()
    return table


@functools.cache
def load(isa: str) -> Table:
    """The table of an ISA: isa/<isa>.decode.  Raise TableError, or OSError if there is none."""
    return parse((HERE / f"{isa}.decode").read_text(encoding="ascii"), f"{isa}.decode")
