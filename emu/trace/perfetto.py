"""Trace events as Chrome and Perfetto's UI read them (the Trace Event Format, JSON object form).

A thread is a track.  Instructions and blocks that follow each other within a function are one slice of it;
system calls and what takes time are slices, the rest are instants.
"""

from __future__ import annotations

import json

from emu.trace.writer import Output, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class _Slice:
    __slots__ = ("blocks", "end", "first", "instructions", "name", "start")

    def __init__(self, name: str, start: int, first: int) -> None:
        self.name, self.start, self.end, self.first = name, start, start, first
        self.instructions = self.blocks = 0


class PerfettoWriter(Writer):
    """ts and dur are microseconds, from the first event on."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self._zero: int | None = None
        self._tracks: set[tuple[int, int]] = set()
        self._open: dict[tuple[int, int], _Slice] = {}
        self._comma = ""

    def start(self) -> None:
        self.output.put('{"displayTimeUnit":"ns","otherData":{"made by":"emu trace"},"traceEvents":[')

    def _put(self, **fields: object) -> None:
        text = json.dumps(fields, separators=(",", ":"), default=str)
        self.output.put(f"{self._comma}\n{text}")
        self._comma = ","

    def _time(self, ns: int) -> float:
        if self._zero is None:
            self._zero = ns
        return (ns - self._zero) / 1000

    def _track(self, pid: int, tid: int, name: str = "") -> None:
        if (pid, tid) in self._tracks and not name:
            return
        self._tracks.add((pid, tid))
        self._put(ph="M", name="thread_name", pid=pid, tid=tid, args={"name": name or f"thread {tid}"})

    def _run(self, ns: int, pid: int, tid: int, at: int, where: str) -> _Slice:
        """The slice of the function that runs now."""
        name = where.partition("+")[0] or "?"
        key = (pid, tid)
        now = self._open.get(key)
        if now is not None and now.name == name:
            now.end = ns
            return now
        self._finish(key, ns)
        self._time(ns)
        made = self._open[key] = _Slice(name, ns, at)
        return made

    def _finish(self, key: tuple[int, int], ns: int) -> None:
        done = self._open.pop(key, None)
        if done is None:
            return
        self._track(*key)
        args: dict[str, object] = {"address": hex(done.first)}
        if done.instructions:
            args["instructions"] = done.instructions
        if done.blocks:
            args["blocks"] = done.blocks
        self._slice("code", done.name, done.start, max(ns, done.end), key, args)

    def _slice(
        self, category: str, name: str, start: int, end: int, key: tuple[int, int], args: dict[str, object]
    ) -> None:
        ts = self._time(start)
        self._put(
            ph="X",
            cat=category,
            name=name,
            ts=ts,
            dur=max(end - start, 1) / 1000,
            pid=key[0],
            tid=key[1],
            args=args,
        )

    def instruction(
        self,
        ns: int,
        pid: int,
        tid: int,
        at: int,
        code: bytes,
        where: str,
        text: str,
        changes: Sequence[tuple[str, int]],
    ) -> None:
        self._run(ns, pid, tid, at, where).instructions += 1

    def block(self, ns: int, pid: int, tid: int, at: int, size: int, where: str) -> None:
        self._run(ns, pid, tid, at, where).blocks += 1

    def call(
        self,
        ns: int,
        end: int,
        pid: int,
        tid: int,
        name: str,
        args: Sequence[int],
        result: int | None,
        text: str,
    ) -> None:
        key = (pid, tid)
        self._finish(key, ns)
        self._track(pid, tid)
        self._slice("syscall", name, ns, end, key, {"call": text})

    def event(self, kind: str, ns: int, pid: int, tid: int, **fields: int | str) -> None:
        text = str(fields.pop("text", ""))
        name = str(fields.pop("name", kind))
        if kind == "process":
            self._put(ph="M", name="process_name", pid=pid, args={"name": name})
            return
        self._track(pid, tid)
        if "duration" in fields:
            self._slice(kind, name, ns, ns + int(fields["duration"]), (pid, tid), {**fields, "text": text})
            return
        if kind == "interrupt" and "level" in fields:
            self._put(ph="C", name=name, ts=self._time(ns), pid=pid, args={"level": fields["level"]})
            return
        self._put(
            ph="i",
            s="t",
            cat=kind,
            name=name,
            ts=self._time(ns),
            pid=pid,
            tid=tid,
            args={**fields, "text": text},
        )

    def close(self) -> None:
        for key in list(self._open):
            self._finish(key, self._open[key].end)
        self.output.put("\n]}\n")
        super().close()
