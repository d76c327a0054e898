"""One JSON object a line, one line an event.

Addresses and registers are strings in hexadecimal, since JSON's readers round large numbers.
"""

from __future__ import annotations

import json

from emu.trace.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_text = json.encoder.encode_basestring_ascii


class JsonWriter(Writer):
    """Fields: event, ns, pid, tid, and those of the event."""

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
        values = ",".join([f'"{name}":"{value:#x}"' for name, value in changes])
        self.output.put(
            f'{{"event":"instruction","ns":{ns},"pid":{pid},"tid":{tid},"address":"{at:#x}",'
            f'"bytes":"{code.hex()}","where":{_text(where)},"text":{_text(text)},"registers":{{{values}}}}}\n'
        )

    def block(self, ns: int, pid: int, tid: int, at: int, size: int, where: str) -> None:
        self.output.put(
            f'{{"event":"block","ns":{ns},"pid":{pid},"tid":{tid},"address":"{at:#x}","size":{size},'
            f'"where":{_text(where)}}}\n'
        )

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
        self._put(
            event="syscall",
            ns=ns,
            pid=pid,
            tid=tid,
            name=name,
            args=[hex(value & (1 << 64) - 1) for value in args],
            result=result,
            duration=end - ns,
            text=text,
        )

    def event(self, kind: str, ns: int, pid: int, tid: int, **fields: int | str) -> None:
        self._put(event=kind, ns=ns, pid=pid, tid=tid, **fields)

    def _put(self, **fields: object) -> None:
        line = json.dumps(fields, separators=(",", ":"), default=str)
        self.output.put(line.encode("utf-8", "replace").decode() + "\n")
