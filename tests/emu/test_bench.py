"""`emu bench`: what it measures, in which order, what is kept, and what is made of it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from emu.bench import guest_access, guest_calls, guest_loops, guest_new_code, guest_timed
from emu.bench.command import SUITES, run
from emu.bench.compare import FASTER, FEW, SAME, SLOWER, pairs
from emu.bench.compare import text as compared
from emu.bench.measure import Measured
from emu.bench.page import to_html
from emu.bench.peers import ENGINES
from emu.bench.process import machine, program
from emu.bench.progress import Progress
from emu.bench.result import Result, Row, load, reference, to_json, write
from emu.bench.suites import SUITES as MADE
from emu.bench.table import digits, seconds, text
from emu.bench.work import Failed, Job, Ran, Sample, Way, Work
from emu.cli import main
from tests.samples.test_listings import assembled

ROOT = Path(__file__).parent.parent.parent
EMU = [sys.executable, "-m", "emu"]


def environ(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


# ---- rounds ------------------------------------------------------------------------------------------


def fake(job: str, engine: str, log: list[str], times: list[float] | None = None, output: bytes = b"") -> Way:
    """A way that notes in `log` when it was gone."""
    left = list(times or [])

    def go() -> Ran:
        log.append(f"{job}{engine}")
        took = left.pop(0) if left else 1.0
        return Ran({job: Sample(took, 2 * took)}, output)

    return Way(engine, "x86_64", go)


def test_every_round_does_each_job_by_each_way_and_the_order_changes() -> None:
    log: list[str] = []
    jobs = [
        Job([Work("s", "a")], [fake("a", engine, log) for engine in "123"]),
        Job([Work("s", "b")], [fake("b", engine, log) for engine in "12"], every=2),
    ]
    measured = Measured(jobs)
    assert measured.steps(3) == 3 * 3 + 2 * 2
    measured.run(3)
    assert log == ["a1", "a2", "a3", "b1", "b2", "a2", "a3", "a1", "a3", "a1", "a2", "b2", "b1"]
    assert [len(row.samples) for row in measured.rows()] == [3, 3, 3, 2, 2]


def test_a_figure_is_the_median_with_the_least_and_the_most() -> None:
    log: list[str] = []
    times = [0.3, 0.1, 0.2, 0.9, 0.4]
    measured = Measured([Job([Work("s", "a")], [fake("a", "1", log, times)])])
    measured.run(5)
    row = measured.rows()[0]
    assert row.cpu == (statistics.median(times), min(times), max(times))
    assert row.wall == (0.6, 0.2, 1.8)


def test_a_way_that_fails_is_told_and_not_gone_again() -> None:
    log: list[str] = []

    def fails() -> Ran:
        log.append("fails")
        raise Failed("the disk is on fire")

    job = Job([Work("s", "a")], [fake("a", "1", log), Way("2", "x86_64", fails)])
    measured = Measured([job])
    measured.run(3)
    good, bad = measured.rows()
    assert log.count("fails") == 1
    assert (len(good.samples), bad.samples, bad.reason) == (3, [], "the disk is on fire")


def test_a_way_with_another_result_than_the_others_has_no_figure() -> None:
    log: list[str] = []
    ways = [fake("a", "1", log, output=b"yes"), fake("a", "2", log, output=b"no")]
    measured = Measured([Job([Work("s", "a")], ways)])
    measured.run(2)
    assert measured.rows()[1].samples == []
    assert measured.rows()[1].reason == "its result differs from 1's"


def test_an_interrupt_keeps_what_is_done() -> None:
    log: list[str] = []

    def interrupted() -> Ran:
        if len(log) > 2:
            raise KeyboardInterrupt
        return fake("b", "2", log).run()  # type: ignore[misc]

    jobs = [
        Job([Work("s", "a")], [fake("a", "1", log)]),
        Job([Work("s", "b")], [Way("2", "x86_64", interrupted)]),
        Job([Work("s", "c")], [fake("c", "3", log)], every=2),
    ]
    result = run(jobs, 3, quiet=True)
    assert (result.complete, result.rounds) == (False, 1)
    assert [(row.work, len(row.samples)) for row in result.rows] == [("a", 2), ("b", 1), ("c", 1)]


def test_progress_is_one_line_on_a_terminal_and_one_for_each_round_elsewhere() -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    job = Job([Work("user", "gzip")], [Way("kvm", "x86_64")])
    shown = {}
    for stream in (StringIO(), Terminal()):
        progress = Progress(2, 4, stream)
        for turn in (0, 0, 1, 1):
            progress.told(turn, job, job.ways[0])
        progress.clear()
        shown[stream.isatty()] = stream.getvalue()
    assert shown[False] == "emu bench: round 1 of 2\nemu bench: round 2 of 2\n"
    assert "\n" not in shown[True]
    assert shown[True].count("\r") == 5
    assert "round 2 of 2, user: gzip, kvm" in shown[True]
    assert shown[True].endswith("\r\x1b[K")


# ---- guests ------------------------------------------------------------------------------------------

LISTINGS = {
    "begin": guest_timed.BEGIN,
    "end": guest_timed.END,
    **{name.lower(): getattr(guest_loops, name) for name in dir(guest_loops) if name.isupper()},
    **{name.lower(): getattr(guest_calls, name) for name in dir(guest_calls) if name.isupper()},
    "access": {"aarch64": guest_access.AARCH64, "x86_64": guest_access.X86_64_PORT},
    "access-memory": {"x86_64": guest_access.X86_64_MEMORY},
}


@pytest.mark.parametrize("isa", guest_timed.ISAS)
def test_the_listings_are_what_their_assembly_says(isa: str, tmp_path: Path) -> None:
    tool, prologue = {
        "aarch64": ("aarch64-linux-gnu", ""),
        "x86_64": ("x86_64-linux-gnu", ".intel_syntax noprefix\n"),
    }[isa]
    for name, listings in LISTINGS.items():
        if isa in listings:
            made = assembled(listings[isa], tool, tmp_path, prologue)
            assert guest_timed.code(isa, listings[isa]) == made, name


def timed(path: Path, isa: str, body: bytes, count: int) -> bytes:
    """The result of a program under an engine that is not ours: the host's CPU, or qemu-user."""
    guest_timed.write_program(path, isa, body, count)
    before = []
    if os.uname().machine != isa:
        qemu = shutil.which(f"qemu-{isa}")
        if qemu is None:
            pytest.skip(f"qemu-user is not installed, which runs {isa} here")
        before = [qemu]
    sample, result = guest_timed.read_times(program([*before, str(path)], stdin=Path("/dev/zero"))[1])
    assert sample.cpu >= 0
    assert sample.wall > 0
    return result


def test_programs_of_both_isas_do_the_same_work(tmp_path: Path) -> None:
    for name, listings in LISTINGS.items():
        if not name.startswith(("begin", "end", "access")):
            count = 15 if name == "calls" else 1000
            results = {
                timed(tmp_path / isa, isa, guest_timed.code(isa, listings[isa]), count)
                for isa in guest_timed.ISAS
            }
            assert len(results) == 1, name
            if name == "calls":
                assert results == {(610).to_bytes(8, "little")}  # Fibonacci's number
            elif name == "read":
                assert results == {(4096 * count).to_bytes(8, "little")}


@pytest.mark.parametrize("isa", guest_timed.ISAS)
def test_new_code_has_the_result_that_is_computed_otherwise(isa: str, tmp_path: Path) -> None:
    body = getattr(guest_new_code, isa)(1000)
    assert timed(tmp_path / "new", isa, body, 1) == guest_new_code.expected(1000).to_bytes(8, "little")


# ---- processes ---------------------------------------------------------------------------------------


def test_a_program_that_does_not_end_or_fails_is_told_in_a_line() -> None:
    with pytest.raises(Failed, match=r"^did not end within 0 s$"):
        program(["sleep", "60"], patience=0.01)
    with pytest.raises(Failed, match=r"^no such luck \(exit status 3\)$"):
        program(["sh", "-c", "echo this >&2; echo no such luck >&2; exit 3"])
    with pytest.raises(Failed, match=r"^/nowhere cannot be started: No such file or directory$"):
        program(["/nowhere"])


def test_a_program_s_children_are_in_its_time_and_are_ended_with_it() -> None:
    burn = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    alone, _ = program(["sh", "-c", ":"])
    family, output = program(["sh", "-c", f"({burn}); sleep 60 & echo $!"])
    assert family.cpu > alone.cpu
    # Killed with the session; there may be nobody who reaps it.
    stat = Path(f"/proc/{int(output)}/stat")
    for _ in range(1000):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                break
        except (FileNotFoundError, ProcessLookupError):
            break
    else:
        pytest.fail("a child lives on")


def test_a_machine_is_measured_from_mark_to_mark_and_ended_behind_the_last() -> None:
    script = "echo boot; echo '@@ begin'; read -n 1 word; echo \"[$word] @@ end\"; sleep 60"
    found = machine(["bash", "-c", script], ["begin", "end"], waits="begin")
    assert list(found) == ["begin", "end"]
    assert all(sample.wall >= 0 <= sample.cpu for sample in found.values())
    with pytest.raises(Failed, match=r"^no 'end' came: oh \(exit status 1\)$"):
        machine(["sh", "-c", "echo '@@ begin'; echo oh >&2; exit 1"], ["begin", "end"])
    with pytest.raises(Failed, match=r"^no 'end' came: exit status 0$"):
        machine(["sh", "-c", "exec 0<&-; echo '@@ begin'"], ["begin", "end"], waits="begin")
    with pytest.raises(Failed, match=r"^no 'end' came: KVM internal error$"):
        machine(["sh", "-c", "echo KVM internal error. Suberror: 1 >&2; exec sleep 60"], ["end"])
    with pytest.raises(Failed, match=r"^no 'end' came: nothing within 0 s$"):
        machine(["sleep", "60"], ["end"], patience=0.01)


# ---- whole runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one short run of all suites writes, by engines that are everywhere."""
    folder = tmp_path_factory.mktemp("bench")
    engines = [word for name in ("native", "translator", "unicorn") for word in ("--engine", name)]
    files = [word for kind in ("json", "csv", "html") for word in (f"--{kind}", str(folder / kind))]
    # What somebody has settled for programs and machines is not measured.
    (folder / "config").write_text("[run]\nsysroot = '/nowhere'\n[boot]\ncpus = 9\n[bench]\nrounds = 1\n")
    done = subprocess.run(
        [*EMU, "bench", "--quick", *engines, *files],
        capture_output=True, text=True, env=environ(EMU_CONFIG=str(folder / "config")), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["emu bench: making the guests", "emu bench: round 1 of 1"]
    assert "\x1b" not in done.stdout
    (folder / "table").write_text(done.stdout)
    return folder


def test_every_suite_has_rows_with_samples_or_a_reason(measured: Path) -> None:
    result = load(measured / "json")
    assert {row.suite for row in result.rows} == set(SUITES) == set(MADE)
    assert (result.complete, result.rounds) == (True, 1)
    for row in result.rows:
        assert len(row.samples) == (0 if row.reason else 1), row
        # Without a network there is no Debian; the other guests are made here.
        assert not row.reason or "cannot be fetched" in row.reason or "translator" in row.engine, row
        assert row.suite in ("user", "boot", "virtio") or not row.reason, row
    assert {row.engine for row in result.rows} == {"native", "translator", "unicorn"}
    assert result.host["kernel"].endswith(os.uname().release)
    assert result.engines["emu"]


def test_the_figures_of_csv_and_html_are_those_of_json(measured: Path) -> None:
    stored = json.loads((measured / "json").read_text())
    lines = list(csv.DictReader((measured / "csv").read_text().splitlines()))
    assert len(lines) == len(stored["rows"])
    page = ET.fromstring((measured / "html").read_text().replace("<!DOCTYPE html>\n", ""))
    shown = {one.get("data-key"): "".join(one.itertext()) for one in page.iter("div") if one.get("data-key")}
    printed = (measured / "table").read_text()
    for row, line in zip(stored["rows"], lines, strict=True):
        assert [row[name] for name in ("suite", "work", "engine", "isa")] == [
            line[name] for name in ("suite", "work", "engine", "isa")
        ]
        if "reason" in row:
            assert line["reason"] == row["reason"]
            continue
        for kind in ("cpu", "wall"):
            assert [float(line[f"{kind}_{what}"]) for what in ("median", "low", "high")] == [
                row[kind][what] for what in ("median", "low", "high")
            ]
            median = statistics.median(row[kind]["samples"])
            assert seconds(median) in shown["|".join((row["suite"], row["work"], row["engine"], row["isa"]))]
            assert seconds(median) in printed


def test_the_page_is_well_formed_and_needs_nothing_else(measured: Path) -> None:
    text = (measured / "html").read_text()
    page = ET.fromstring(text.replace("<!DOCTYPE html>\n", ""))
    assert [one.tag for one in page] == ["head", "body"]
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|src=|href=", text)
    assert len(list(page.iter("svg"))) == sum(not row.reason for row in load(measured / "json").rows)


def test_a_stored_result_is_shown_again(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = measured / "again"
    assert main(["bench", "--show", str(measured / "json"), "--html", str(again)]) == 0
    assert capsys.readouterr().out == (measured / "table").read_text()
    assert again.read_text() == (measured / "html").read_text()


def test_the_documentation_s_tables_are_those_of_its_result() -> None:
    """Else: python docs/performance.py."""
    done = subprocess.run(
        [sys.executable, "-c", "import performance; print(performance.page(), end='')"],
        capture_output=True, text=True, env=environ(), cwd=ROOT / "docs", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == (ROOT / "docs" / "performance.md").read_text()


def test_a_missing_peer_is_a_row_that_says_so(tmp_path: Path) -> None:
    """With nothing in PATH there is no QEMU."""
    words = ["--suite", "syscall", "--quick", "--rounds", "1", "--engine", "qemu-user", "--engine", "native"]
    done = subprocess.run(
        [*EMU, "bench", "-q", *words, "--json", "-"],
        capture_output=True, text=True, env=environ(PATH=str(tmp_path)), timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    rows = [row for row in json.loads(done.stdout)["rows"] if row["engine"] == "qemu-user"]
    assert len(rows) == 3
    for row in rows:
        assert row["reason"] == "qemu-aarch64 is not installed: apt-get install qemu-user"
        assert "cpu" not in row


def test_ctrl_c_writes_what_is_done_and_ends_by_the_signal(tmp_path: Path) -> None:
    stored = tmp_path / "now.json"
    words = ["--suite", "syscall", "--engine", "native", "--rounds", "1000", "--json", str(stored)]
    child = subprocess.Popen(
        [*EMU, "bench", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ()
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("emu bench: round 3 "):
            child.send_signal(signal.SIGINT)
            break
    out, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert re.search(r"^emu bench: interrupted after \d+ complete rounds; what is done follows$", err, re.M)
    assert "getppid: one call" in out
    result = load(stored)
    assert not result.complete
    assert 2 <= result.rounds < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["now.json"]


# ---- what is shown -----------------------------------------------------------------------------------


def made(**times: list[float]) -> Result:
    """A result of one work; an engine without times is missing."""
    rows = []
    for name, cpu in times.items():
        row = Row("user", "gzip", "run", name.replace("_", "-"), "x86_64", "" if cpu else "not here")
        row.samples = [Sample(value, value) for value in cpu]
        rows.append(row)
    return Result(rows, {"cpu": "a CPU"}, {"emu": "1"}, 3, "2026-01-31T12:00:00+00:00")


def test_a_reason_is_told_once_in_each_suite() -> None:
    result = made(kvm=[], native=[], unicorn=[0.1])
    result.rows += [Row(suite, "sort", "run", "kvm", "x86_64", "not here") for suite in ("user", "boot")]
    shown = re.findall(r"n/a: (.*)", text(result))
    assert shown == ["not here", "as above", "as above", "not here"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0012345, "0.00123"),
        (0.1, "0.100"),
        (1, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1234, "1230"),
    ],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert digits(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2.5, "2.50 s"),
        (0.9996, "1.00 s"),
        (0.0123, "12.3 ms"),
        (1e-6, "1.00 us"),
        (3.21e-8, "32.1 ns"),
        (0, "0 ns"),
    ],
)
def test_times_have_their_own_unit(value: float, shown: str) -> None:
    assert seconds(value) == shown


def test_native_is_one_and_qemu_where_there_is_no_native() -> None:
    result = made(kvm=[0.2], native=[0.1], qemu_tcg=[0.5], translator=[])
    base = reference(result.rows)
    assert base is not None
    assert base.engine == "native"
    assert reference(made(kvm=[0.2], qemu_tcg=[0.5]).rows).engine == "qemu-tcg"  # type: ignore[union-attr]
    assert reference(made(kvm=[0.2], native=[]).rows) is None
    shown = text(result).splitlines()
    assert [line.split()[-1] for line in shown if line.startswith("    ")][1:4] == ["2.00", "1.00", "5.00"]
    assert "    translator  x86-64   n/a: not here" in shown
    assert "  user        kvm 2.00, qemu-tcg 5.00" in shown


def test_a_page_of_one_engine_or_with_hostile_names_is_well_formed() -> None:
    result = made(unicorn=[0.1, 0.2])
    result.rows.append(Row('<b>&"', "</style><script>", "'", '"><x', "]]>", "<&>"))
    result.complete = False
    page = ET.fromstring(to_html(result, {}).replace("<!DOCTYPE html>\n", ""))
    assert "interrupted" in "".join(page.itertext())
    assert not list(page.iter("script"))


# ---- two results -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([1.0, 1.1, 1.2], [1.15, 1.3, 1.4], SAME),
        ([1.0, 1.1, 1.2], [1.2, 1.3, 1.4], SAME),
        ([1.0, 1.1, 1.2], [1.3, 1.4, 1.5], SLOWER),
        ([1.3, 1.4, 1.5], [1.0, 1.1, 1.2], FASTER),
        ([1.0, 1.1, 1.2], [1.0, 1.1, 1.2], SAME),
        ([1.0, 1.1], [1.3, 1.4, 1.5], FEW),
    ],
)
def test_a_difference_counts_where_no_samples_overlap(
    before: list[float], after: list[float], verdict: str
) -> None:
    (pair,) = pairs(made(kvm=before), made(kvm=after))
    assert pair.verdict == verdict
    assert pair.ratio == pytest.approx(statistics.median(after) / statistics.median(before))


def test_two_results_are_compared_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (
        made(kvm=[1.0] * 3, native=[0.5], unicorn=[3.0]),
        made(kvm=[2.0] * 3, native=[0.5], qemu_user=[4.0]),
    )
    two.host = {"cpu": "another CPU"}
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, result in zip(files, (one, two), strict=True):
        write(path, to_json(result))
    assert main(["bench", "--compare", *map(str, files)]) == 0
    shown = capsys.readouterr().out
    assert shown == compared(one, two) + "\n"
    assert re.search(r"^  gzip\n    kvm +x86-64 +1\.00 s +2\.00 s +2\.00  slower$", shown, re.MULTILINE)
    assert "2 in both: 1 slower, 1 too few rounds to say" in shown
    assert "differs: cpu: a CPU; another CPU" in shown
    assert "only in A: user, gzip, unicorn\nonly in B: user, gzip, qemu-user" in shown


def test_a_difference_of_somebody_else_s_engine_is_said_to_be_the_host_s() -> None:
    before, after = made(kvm=[1.0] * 3, native=[0.5] * 3), made(kvm=[2.0] * 3, native=[0.6] * 3)
    assert "1 of these are native's or QEMU's, which no version of emu changes" in compared(before, after)
    after.rows[1].samples = before.rows[1].samples
    assert "no version of emu changes" not in compared(before, after)


def test_a_quick_result_is_not_compared_with_a_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in files:
        result = made(kvm=[1.0])
        result.quick = path.name == "b.json"
        write(path, to_json(result))
    assert main(["bench", "--compare", *map(str, files)]) == 2
    assert capsys.readouterr().err.startswith(f"emu: {files[1]} was made with --quick, and the other one not")


def broken(change: Any) -> str:
    whole = json.loads(to_json(made(kvm=[1.0])))
    change(whole)
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("stored", "cause"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("\xff", "it is not JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ("[]", "it has no version"),
        ('{"rows": []}', "it has no version"),
        (broken(lambda whole: whole.update({"emu-bench": 2})), "its version is 2, and this emu reads 1"),
        (broken(lambda whole: whole.pop("rows")), "rows is missing or of the wrong kind"),
        (broken(lambda whole: whole.update(rounds=True)), "rounds is missing or of the wrong kind"),
        (broken(lambda whole: whole["host"].update(cpu=1)), "host has something besides text"),
        (broken(lambda whole: whole["engines"].update({"\x1b[2J": "1"})), "engines has something"),
        (broken(lambda whole: whole.update(when="\x1b[2J")), "when has something that cannot be printed"),
        (broken(lambda whole: whole["rows"].append(1)), "rows[1] is no object"),
        (broken(lambda whole: whole["rows"].append(whole["rows"][0])), "a row is there twice"),
        (broken(lambda whole: whole["rows"][0].pop("isa")), "rows[0].isa is missing"),
        (broken(lambda whole: whole["rows"][0].pop("cpu")), "rows[0] has neither samples nor a reason"),
        (broken(lambda whole: whole["rows"][0]["cpu"].update(samples=["1"])), "rows[0].cpu.samples has"),
        (broken(lambda whole: whole["rows"][0]["cpu"].update(samples=[-1])), "rows[0].cpu.samples has"),
        (broken(lambda whole: whole["rows"][0]["cpu"].update(samples=[10**400])), "rows[0].cpu.samples has"),
        (broken(lambda whole: whole["rows"][0]["cpu"].update(samples=[1, 2])), "rows[0] has 2 samples"),
        (broken(lambda whole: whole["rows"][0]["wall"].update(samples=[1e999])), "rows[0].wall.samples has"),
    ],
)  # fmt: skip
def test_a_foreign_file_is_told_by_name_and_reason(
    stored: str, cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(stored.encode("latin-1"))
    assert main(["bench", "--compare", str(path), str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"emu: {path} is no result of emu bench: {cause}")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--compare", "/nowhere/a", "/nowhere/b"], "/nowhere/a: No such file or directory; name"),
        (["--json", "/nowhere/a"], "/nowhere/a: /nowhere cannot be written to; name"),
        (["--html", "/"], "/: it is a folder; name a file that can be written"),
        (["--rounds", "0"], "--rounds 0: give a number from 1 to 1000"),
        (["--json", "-", "--csv", "-"], "only one of --json, --csv and --html can be"),
        (["--suite", "syscall", "--engine", "qemu-kvm", "-q"], "none of these engines takes part"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_told_before_anything_runs(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.startswith(f"emu: {told}")


def test_the_list_names_all_suites_and_engines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line] == [*SUITES, *ENGINES]
