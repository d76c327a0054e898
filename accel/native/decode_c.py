"""Writes the C decoder of A64 from isa/aarch64.decode.

a64_decode.h        a number and a struct of fields for each encoding, and the prototypes of those functions
                    that some a64_*.c defines (`INSN(name)` at the start of a line)
a64_decode_table.h  what a64_decode.c looks words up in

A word is looked up in two steps: bits 31 to 20 choose a row, bits 15 to 10 an entry of it, which is a short
list of encodings whose fixed bits are compared, and constraints too, where those bits do not decide them: to
look at constraints costs a branch that the host predicts badly, 8 of 10 ns a word.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
if str(ROOT) not in sys.path:  # run by its path, from anywhere
    sys.path.insert(0, str(ROOT))

from isa.decode import Encoding, Table, TableError, load  # noqa: E402

HIGH, HIGH_SHIFT = 12, 20
LOW, LOW_SHIFT = 6, 10
HIGH_BITS = (1 << HIGH) - 1 << HIGH_SHIFT
LOW_BITS = (1 << LOW) - 1 << LOW_SHIFT
KEY = HIGH_BITS | LOW_BITS
CHECK = 0x8000
_INSN = re.compile(r"^INSN\((\w+)\)", re.MULTILINE)
_SYMBOLS: dict[type[ast.AST], str] = {
    **{ast.Add: "+", ast.Sub: "-", ast.BitAnd: "&", ast.BitOr: "|", ast.LShift: "<<", ast.RShift: ">>"},
    **{ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="},
    **{ast.And: "&&", ast.Or: "||"},
}


def expression(encoding: Encoding, node: ast.expr) -> str:
    """A constraint in C, over `word`; fields are ints, so that a difference may be negative as in Python."""

    def c(node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                field = encoding.fields[name]
                return f"(int)(word >> {field.shift} & {(1 << field.width) - 1:#x})"
            case ast.Constant(value=value):
                return str(int(value))  # type: ignore[arg-type]
            case ast.BoolOp(op=operator, values=values):
                return "(" + f" {_SYMBOLS[type(operator)]} ".join(map(c, values)) + ")"
            case ast.UnaryOp(operand=operand):
                return f"!({c(operand)})"
            case ast.BinOp(left=left, op=operator, right=right):
                return f"({c(left)} {_SYMBOLS[type(operator)]} {c(right)})"
            case ast.Compare(
                left=left, ops=[ast.In() | ast.NotIn() as how], comparators=[ast.Tuple(elts=some)]
            ):
                any_of = " || ".join(f"{c(left)} == {c(one)}" for one in some)
                return f"({any_of})" if isinstance(how, ast.In) else f"!({any_of})"
            case ast.Compare(left=left, ops=[how], comparators=[right]):
                return f"({c(left)} {_SYMBOLS[type(how)]} {c(right)})"
        raise AssertionError(ast.dump(node))  # decode.py lets nothing else through

    return c(node)


def implemented(sources: Iterable[Path], table: Table) -> list[Encoding]:
    """The encodings that C sources define a function for, in the table's order.

    Raise TableError if one is defined twice, or the table does not have it.
    """
    known = {encoding.name: encoding for encoding in table}
    found: dict[str, Path] = {}
    for source in sorted(sources):
        for name in _INSN.findall(source.read_text()):
            if name not in known:
                raise TableError(f"{source.name}: INSN({name}): isa/aarch64.decode has no encoding {name}")
            if name in found:
                raise TableError(f"{source.name}: INSN({name}) stands in {found[name].name} too")
            found[name] = source
    return [encoding for encoding in table if encoding.name in found]


def feature_names(table: Table) -> list[str]:
    """The features that encodings need, each once."""
    return list(dict.fromkeys(encoding.feature for encoding in table if encoding.feature))


def header(table: Table, functions: list[Encoding]) -> str:
    """a64_decode.h."""
    lines = [
        "/* Written by accel/native/decode_c.py from isa/aarch64.decode: A64's encodings, their fields. */",
        "#ifndef A64_DECODE_H",
        "#define A64_DECODE_H",
        "",
        "#include <stdbool.h>",
        "#include <stdint.h>",
        "",
        "struct a64_translator;",
        "",
        "/* Defines the function that translates an encoding; `f` has its fields. */",
        "#define INSN(name) bool a64_tr_##name(struct a64_translator *t, const a64_##name *f)",
        "",
        "/* What a CPU may have besides the base architecture. */",
        "enum a64_feature {",
        *(f"    A64_HAS_{name.upper()}," for name in feature_names(table)),
        "    A64_FEATURES",
        "};",
        "",
        "enum a64_encoding {",
        "    A64_NONE, /* unallocated */",
        *(f"    A64_{encoding.name}," for encoding in table),
        "    A64_ENCODINGS",
        "};",
        "",
    ]
    for encoding in table:
        # A struct must have a member; what has no field is told apart by its name alone.
        names = ", ".join(encoding.fields) or "nothing"
        lines.append(f"typedef struct {{ uint32_t {names}; }} a64_{encoding.name};")
    lines += [
        "",
        *(
            f"bool a64_tr_{encoding.name}(struct a64_translator *t, const a64_{encoding.name} *f);"
            for encoding in functions
        ),
        "",
        "/* Which encoding a word is. */",
        "enum a64_encoding a64_decode(uint32_t word);",
        '/* The name that an encoding has in the table; "NONE" for A64_NONE. */',
        "const char *a64_name(enum a64_encoding encoding);",
        "/* Whether an encoding has a function that translates it. */",
        "bool a64_implemented(enum a64_encoding encoding);",
        "/* Whether all encodings of a feature have one. */",
        "bool a64_complete(enum a64_feature feature);",
        "/* Translates a word; false if there is no function for it, or it returned false. */",
        "bool a64_dispatch(struct a64_translator *t, uint32_t word);",
        "/* The same for a word whose encoding is known. */",
        "bool a64_dispatch_as(enum a64_encoding encoding, struct a64_translator *t, uint32_t word);",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _subsets(bits: int) -> Iterator[int]:
    """All words that have some of these bits."""
    some = 0
    while True:
        yield some
        some = (some - bits) & bits
        if not some:
            return


def _verdicts(encoding: Encoding) -> tuple[int, dict[int, bool | None]]:
    """Which key bits a constraint depends on; what it is for each value of them, None if not known yet."""
    bits = encoding.bits_of(encoding.constraint) & ~encoding.mask
    verdicts: dict[int, bool | None] = {}
    for key in _subsets(bits & KEY):
        answers = {encoding.allows(encoding.value | key | rest) for rest in _subsets(bits & ~KEY)}
        verdicts[key] = answers.pop() if len(answers) == 1 else None
    return bits & KEY, verdicts


def lookup(table: Table) -> tuple[list[int], list[list[int]], list[int]]:
    """Rows by high bits; in a row, the start of a list by low bits; the lists, each ended by 0.

    What a constraint says is found out here where the key decides it; CHECK is on the encodings where not.
    """
    highs: list[list[int]] = [[] for _ in range(1 << HIGH)]
    lows: dict[int, set[int]] = {}
    verdicts = {}
    for number, encoding in enumerate(table, 1):
        for word in _subsets(HIGH_BITS & ~encoding.mask):
            highs[(word | encoding.value) >> HIGH_SHIFT].append(number)
        lows[number] = {word | encoding.value & LOW_BITS for word in _subsets(LOW_BITS & ~encoding.mask)}
        verdicts[number] = _verdicts(encoding)
    lists = [0]
    starts: dict[tuple[int, ...], int] = {(): 0}
    row_of: dict[tuple[tuple[int, int], ...], int] = {}
    rows: list[list[int]] = []
    chosen = []
    for high, numbers in enumerate(highs):
        # All that the rest of the row depends on.
        same = tuple((number, high << HIGH_SHIFT & verdicts[number][0]) for number in numbers)
        if same not in row_of:
            entries = []
            for low in range(0, 1 << LOW + LOW_SHIFT, 1 << LOW_SHIFT):
                some = []
                for number in numbers:
                    bits, verdict = verdicts[number]
                    allowed = verdict[(high << HIGH_SHIFT | low) & bits]
                    if low in lows[number] and allowed is not False:
                        some.append(number if allowed else number | CHECK)
                if tuple(some) not in starts:
                    starts[tuple(some)] = len(lists)
                    lists += [*some, 0]
                entries.append(starts[tuple(some)])
            if entries in rows:
                row_of[same] = rows.index(entries)
            else:
                row_of[same] = len(rows)
                rows.append(entries)
        chosen.append(row_of[same])
    return chosen, rows, lists


def _numbers(numbers: Iterable[int]) -> list[str]:
    texts = [str(number) for number in numbers]
    return ["    " + ", ".join(texts[at : at + 20]) + "," for at in range(0, len(texts), 20)]


def tables(table: Table, functions: list[Encoding]) -> str:
    """a64_decode_table.h."""
    chosen, rows, lists = lookup(table)
    lines = [
        "/* Written by accel/native/decode_c.py from isa/aarch64.decode; read by a64_decode.c alone. */",
        "static const char *const names[A64_ENCODINGS] = {",
        '    [A64_NONE] = "NONE",',
        *(f'    [A64_{encoding.name}] = "{encoding.name}",' for encoding in table),
        "};",
        "",
        "/* A word of an encoding has these bits. */",
        "static const struct fixed { uint32_t mask, value; } fixed[A64_ENCODINGS] = {",
        *(f"    [A64_{e.name}] = {{ {e.mask:#010x}, {e.value:#010x} }}," for e in table),
        "};",
        "",
        f"/* By bits {HIGH_SHIFT + HIGH - 1} to {HIGH_SHIFT}: a row. */",
        f"static const uint16_t row_of[{1 << HIGH}] = {{",
        *_numbers(chosen),
        "};",
        "",
        f"/* By bits {LOW_SHIFT + LOW - 1} to {LOW_SHIFT}: where a list of candidates begins. */",
        f"static const uint16_t rows[{len(rows)}][{1 << LOW}] = {{",
        *(line for row in rows for line in ("    {", *_numbers(row), "    },")),
        "};",
        "",
        "/* Encodings, each list ended by 0. */",
        f"static const uint16_t candidates[{len(lists)}] = {{",
        *_numbers(lists),
        "};",
        "",
        f"#define HIGH_SHIFT {HIGH_SHIFT}",
        f"#define LOW_SHIFT {LOW_SHIFT}",
        f"#define LOW_MASK {(1 << LOW) - 1}",
        f"#define CHECK {CHECK:#x} /* in a list: the constraint is to be looked at */",
        "",
        "/* Whether the fields of a word have values that its encoding allows. */",
        "static bool allowed(enum a64_encoding encoding, uint32_t word)",
        "{",
        "    switch (encoding) {",
    ]
    for number, encoding in enumerate(table, 1):
        if encoding.constraint is not None and number | CHECK in lists:
            lines.append(f"    case A64_{encoding.name}:")
            lines.append(f"        return {expression(encoding, encoding.constraint)};")
    lines += [
        "    default:",
        "        return true;",
        "    }",
        "}",
        "",
        "static const bool functions[A64_ENCODINGS] = {",
        "    [A64_NONE] = false,",
        *(f"    [A64_{encoding.name}] = true," for encoding in functions),
        "};",
        "",
        "static const bool complete[A64_FEATURES] = {",
        *(
            f"    [A64_HAS_{name.upper()}] = "
            f"{str(all(e in functions for e in table if e.feature == name)).lower()},"
            for name in feature_names(table)
        ),
        "};",
        "",
        "/* Calls the function of an encoding with the fields of a word. */",
        "static bool call(enum a64_encoding encoding, struct a64_translator *t, uint32_t word)",
        "{",
        "    switch (encoding) {",
    ]
    for encoding in functions:
        fields = [
            f".{f.name} = word >> {f.shift} & {(1 << f.width) - 1:#x}" for f in encoding.fields.values()
        ]
        initial = ", ".join(fields) or "0"
        lines.append(f"    case A64_{encoding.name}:")
        lines.append(f"        return a64_tr_{encoding.name}(t, &(a64_{encoding.name}){{ {initial} }});")
    lines += [
        "    default:",
        "        (void)t;",
        "        (void)word;",
        "        return false;",
        "    }",
        "}",
        "",
    ]
    return "\n".join(lines)


def write(folder: Path = HERE, sources: Iterable[Path] | None = None) -> None:
    """Write both headers into a folder, unless the same text is there.

    The functions are those of `sources`, by default a64_*.c of this folder.
    """
    table = load("aarch64")
    functions = implemented(HERE.glob("a64_*.c") if sources is None else sources, table)
    for name, text in (
        ("a64_decode.h", header(table, functions)),
        ("a64_decode_table.h", tables(table, functions)),
    ):
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
