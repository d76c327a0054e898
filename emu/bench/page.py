"""A result as one HTML page that needs nothing else: pictures, figures and where they come from.

Bars are CPU time; within a work all have one scale.  Labels are text of the page and not of the pictures, so
that they wrap and nothing can lie over anything in a narrow window.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from emu.bench.bars import bar
from emu.bench.peers import ENGINES, ISAS
from emu.bench.result import Result, Row, reference
from emu.bench.table import digits, means, seconds, spread, title

STYLE = """\
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5b6068; --paper: #ffffff; --box: #f3f4f6;
  --line: #d5d8dd; --native: #4b5563; --kvm: #0f766e; --translator: #1d4ed8; --unicorn: #7c3aed;
  --qemu: #c2410c; --other: #64748b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a3a9b3; --paper: #16181c;
  --box: #202329; --line: #3a3f47; --native: #9ca3af; --kvm: #2dd4bf; --translator: #60a5fa;
  --unicorn: #a78bfa; --qemu: #fb923c; --other: #94a3b8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; color: var(--ink); background: var(--paper);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.26rem; margin: 2.2rem 0 .2rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0; }
.soft { color: var(--soft); }
.notice { border-left: .25rem solid var(--qemu); padding: .3rem .7rem; background: var(--box); }
.rows { display: grid; grid-template-columns: 9rem minmax(6rem, 1fr) 26rem;
  gap: .15rem .8rem; align-items: center; }
.rows > div { display: contents; }
.name, .whole { white-space: nowrap; }
.name small { color: var(--soft); }
.figures { font-variant-numeric: tabular-nums; }
.figures b { font-weight: 600; }
.missing { grid-column: 2 / -1; color: var(--soft); }
svg { display: block; width: 100%; height: 20px; background: var(--box); }
.bar { fill: var(--other); } .bar.native { fill: var(--native); } .bar.kvm { fill: var(--kvm); }
.bar.translator { fill: var(--translator); } .bar.unicorn { fill: var(--unicorn); }
.bar.qemu-user, .bar.qemu-tcg, .bar.qemu-kvm { fill: var(--qemu); }
.spread { stroke: var(--ink); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.one { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
@media (max-width: 54rem) { body { padding: 1rem; }
  .rows { grid-template-columns: 1fr; gap: 0; } .missing { grid-column: auto; }
  .name { margin-top: .5rem; } }
"""


def to_html(result: Result, about: dict[str, str]) -> str:
    """The page; about: what each suite is, by name."""
    parts = [_head(result), _means(result)]
    suite = ""
    for (name, work), rows in result.works().items():
        if name != suite:
            suite = name
            words = escape(about.get(suite, ""))
            parts.append(f'<h2>{escape(suite)}</h2>\n<p class="soft">{words}</p>')
        parts.append(_work(work, rows))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>emu bench, {escape(result.when)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join([*parts, _origin(result)])
        + "\n</body>\n</html>\n"
    )


def _head(result: Result) -> str:
    rounds = f"{result.rounds} round" + ("" if result.rounds == 1 else "s")
    lines = [
        "<h1>emu bench</h1>",
        f"<p>The same work by each engine, in turn, {rounds}. A bar is the median of the CPU time that it "
        "took, the line across it goes from the least to the most; shorter is better. The dashed line is 1: "
        "native, or QEMU where nothing is native. The clock's time is in brackets.</p>",
        f'<p class="soft">{escape(_where(result))}</p>',
    ]
    if not result.complete:
        lines.append('<p class="notice">This run was interrupted: what follows had been done by then.</p>')
    return "\n".join(lines)


def _where(result: Result) -> str:
    host = result.host
    words = [host.get(name, "") for name in ("cpu", "kernel", "system")]
    words.append(f"{host['cpus']} CPUs" if "cpus" in host else "")
    return ", ".join([word for word in words if word] + [result.when])


def _means(result: Result) -> str:
    found = means(result)
    if not found:
        return ""
    engines = [name for name in ENGINES if any(name in each for each in found.values())]
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in engines)
    rows = []
    for suite, each in found.items():
        cells = (digits(each[name][0]) if name in each else "" for name in engines)
        figures = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        rows.append(f"<tr><td>{escape(suite)}</td>{figures}</tr>")
    return (
        "<h2>Times native's CPU time</h2>\n<p class=\"soft\">Geometric means over each suite's works.</p>\n"
        f'<div class="wide"><table>\n<tr><th></th>{head}</tr>\n' + "\n".join(rows) + "\n</table></div>"
    )


def _work(work: str, rows: list[Row]) -> str:
    base = reference(rows)
    one = base.cpu.median if base else None
    most = 1.01 * max((row.cpu.high for row in rows if row.samples), default=0.0)
    lines = [_row(row, most, one, base) for row in rows]
    return (
        f'<h3>{escape(title(work, rows[0].per))}</h3>\n<div class="rows">\n' + "\n".join(lines) + "\n</div>"
    )


def _row(row: Row, most: float, one: float | None, base: Row | None) -> str:
    name = (
        f'<span class="name">{escape(row.engine)} <small>{escape(ISAS.get(row.isa, row.isa))}</small></span>'
    )
    if not row.samples:
        return f'<div>{name}<span class="missing">not measured: {escape(row.reason)}</span></div>'
    cpu, wall = row.cpu, row.wall
    beside = f"<b>{digits(cpu.median / one)}</b> &#215; {escape(base.engine)}, " if base and one else ""
    kind = row.engine if row.engine in ENGINES else ""
    clock = f'<span class="whole">[{seconds(wall.median)}]</span>'
    figures = f"{beside}{seconds(cpu.median)} ({spread(cpu)}) {clock}"
    return (
        f'<div data-key="{escape("|".join(row.key))}">{name}{bar(cpu, most, kind, one)}'
        f'<span class="figures">{figures}</span></div>'
    )


def _origin(result: Result) -> str:
    facts = {**result.host, **result.engines}
    if result.load:
        facts["load before"] = " ".join(map(str, result.load))
    return f"<h2>Where this was measured</h2>\n{_two(facts)}\n<h2>Engines</h2>\n{_two(ENGINES)}"


def _two(facts: Mapping[str, str]) -> str:
    """A table of two columns."""
    rows = "\n".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in facts.items())
    return f'<div class="wide"><table>\n{rows}\n</table></div>'
