"""`emu top`: what the user's running machines do, live.

Machines are found by their sockets (emu/presence.py) and asked in QMP, one question each time; one that does
not answer in time is shown as silent, and the others are shown nevertheless.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import Any

from emu import presence
from emu.cli.colours import colourful

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator
    from types import FrameType

NEGOTIATION = b'{"execute": "qmp_capabilities", "id": "begin"}\r\n'
QUESTION = b'{"execute": "x-usage", "id": "usage"}\r\n'
# Seconds that all machines together have for an answer, and bytes that one may send without a line's end.
PATIENCE = 1.0
LONGEST = 1 << 20
# Counts whose difference by time is shown.
COUNTED = ("cpu-time", "process-time", "disk-read", "disk-written", "net-received", "net-sent")
BOLD, REVERSE, DIM, PLAIN = "\x1b[1m", "\x1b[7m", "\x1b[2m", "\x1b[m"


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of `emu top`."""
    add = parser.add_argument
    add("--once", action="store_true", help="show them once, and end; so it does without a terminal")
    add("--json", action="store_true", help="as JSON, for scripts; with --once")
    add("-d", "--delay", type=_delay, default=1.0, metavar="SECONDS", help="between two looks (default: 1)")


def _delay(words: str) -> float:
    seconds = float(words)
    if not 0.1 <= seconds <= 3600:
        raise ValueError(words)
    return seconds


def main(args: Namespace) -> int:
    """Runs `emu top` and returns its exit status."""
    seen = Machines()
    with seen.closing():
        if args.once or args.json or not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
            seen.look()
            time.sleep(args.delay if seen.all else 0)
            seen.look()
            if args.json:
                json.dump([row.told for row in seen.rows("p")], sys.stdout, indent=2)
                sys.stdout.write("\n")
            else:
                _write(seen, "p", colourful(sys.stdout))
            return 0
        live(seen, args.delay)
    return 0


# -- machines ------------------------------------------------------------------------


class Row:
    """A machine: told is what it answered last, with rates by second."""

    def __init__(self, name: str, end: socket.socket) -> None:
        self.name = name
        self.end = end
        self.told: dict[str, Any] = {}
        self.answered = False
        self.gone = False
        self._received = bytearray()
        self._sending = bytearray(NEGOTIATION)
        self._asked = False
        self._at = 0.0  # when it answered last

    def ask(self) -> None:
        """Sends the question; not again to one that has not answered yet."""
        if not self._asked:
            self._sending += QUESTION
        self._asked, self.answered = True, False
        self.push()

    def push(self) -> None:
        try:
            del self._sending[: self.end.send(self._sending)]
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def hear(self) -> None:
        """Takes what has come."""
        try:
            data = self.end.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if not data or len(self._received) > LONGEST:
            self.gone = True
            return
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            try:
                message = json.loads(line)
            except ValueError:
                self.gone = True
                return
            if not isinstance(message, dict) or message.get("id") != "usage":
                continue
            if not isinstance(message.get("return"), dict):
                self.gone = True  # a machine of another version's
                return
            self._take(message["return"])

    def _take(self, told: dict[str, Any]) -> None:
        now = time.monotonic()
        for name in COUNTED:
            grown = told[name] - self.told.get(name, told[name])
            told[f"{name}-rate"] = round(grown / (now - self._at), 3)
        self.told, self._at = told, now
        self._asked, self.answered = False, True


class Machines:
    """All that are found; they come and go."""

    def __init__(self) -> None:
        self.all: dict[str, Row] = {}

    @contextmanager
    def closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            for row in self.all.values():
                row.end.close()

    def look(self) -> None:
        """Asks every machine and takes the answers, but waits for none for ever."""
        for name, end in presence.connections(set(self.all)).items():
            self.all[name] = Row(name, end)
        poll = select.poll()
        waiting = {}
        for row in self.all.values():
            row.ask()
            waiting[row.end.fileno()] = row
            poll.register(row.end.fileno(), select.POLLIN)
        late = time.monotonic() + PATIENCE
        while waiting and (left := late - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                row = waiting[fd]
                row.hear()
                if row.answered or row.gone:
                    poll.unregister(fd)
                    del waiting[fd]
        for name, row in list(self.all.items()):
            if row.gone:
                row.end.close()
                del self.all[name]

    def rows(self, order: str) -> list[Row]:
        """Those that have answered once, in the order of a key of ORDERS."""
        return sorted((row for row in self.all.values() if row.told), key=ORDERS[order])


ORDERS: dict[str, Callable[[Row], Any]] = {
    # By the key that asks for it.
    "p": lambda row: row.told["pid"],
    "n": lambda row: (row.told["name"], row.told["pid"]),
    "c": lambda row: (-row.told["cpu-time-rate"], row.told["pid"]),
    "m": lambda row: (-row.told["memory-resident"], row.told["pid"]),
}


# -- what is shown ---------------------------------------------------------------------


def size(count: float) -> str:
    """Bytes, in at most five characters."""
    for unit in "BKMGT":
        if count < 999.5 or unit == "T":
            return f"{count:.0f}{unit}" if count >= 9.95 or unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    raise AssertionError(count)


def span(seconds: float) -> str:
    """A time, in at most eight characters."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours < 100:
        return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{hours // 24}d{hours % 24}h"


def _used(told: dict[str, Any]) -> str:
    return size(told["memory-used"]) if "memory-used" in told else "-"


# Title, width (to the left if negative), how soon it is left out of a narrow terminal (0: never), its text.
COLUMNS: tuple[tuple[str, int, int, Callable[[dict[str, Any]], str]], ...] = (
    ("PID", 7, 0, lambda told: str(told["pid"])),
    ("NAME", -11, 0, lambda told: printable(told["name"]) or "-"),
    ("ARCH", -7, 7, lambda told: told["arch"]),
    ("ACCEL", -5, 6, lambda told: told["accel"]),
    ("STATE", -9, 0, lambda told: told["status"]),
    ("CPUS", 4, 8, lambda told: str(told["cpus"])),
    ("CPU%", 5, 0, lambda told: f"{told['cpu-time-rate'] * 100:.0f}"),
    ("MAX", 5, 5, lambda told: size(told["memory-maximum"])),
    ("NOW", 5, 2, lambda told: size(told["memory-current"])),
    ("USED", 5, 1, _used),
    ("RSS", 5, 0, lambda told: size(told["memory-resident"])),
    ("READ/s", 6, 3, lambda told: size(told["disk-read-rate"])),
    ("WRITE/s", 7, 3, lambda told: size(told["disk-written-rate"])),
    ("IN/s", 5, 4, lambda told: size(told["net-received-rate"])),
    ("OUT/s", 5, 4, lambda told: size(told["net-sent-rate"])),
    ("UP", 8, 9, lambda told: span(told["uptime"])),
)


def printable(text: str) -> str:
    """A machine's name, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def table(rows: list[Row], width: int) -> list[tuple[str, Row | None]]:
    """The titles and a line for each machine, of at most so many columns."""
    chosen = list(COLUMNS)
    while sum(abs(column[1]) + 1 for column in chosen) - 1 > width:
        soonest = max(column[2] for column in chosen)
        if not soonest:
            break
        chosen = [column for column in chosen if column[2] != soonest]

    def line(words: Iterator[str]) -> str:
        cells = []
        for (_, wide, _, _), word in zip(chosen, words, strict=True):
            cells.append(word[:-wide].ljust(-wide) if wide < 0 else word.rjust(wide))
        return " ".join(cells)[:width].rstrip()

    lines: list[tuple[str, Row | None]] = [(line(title for title, *_ in chosen), None)]
    for row in rows:
        told = row.told if row.answered else {**row.told, "status": "silent"}
        lines.append((line(text(told) for *_, text in chosen), row))
    return lines


def summary(rows: list[Row]) -> str:
    """All machines in one line."""
    told = [row.told for row in rows]
    running = sum(each["status"] == "running" for each in told)
    cpu = sum(each["process-time-rate"] for each in told) * 100
    resident = sum(each["memory-resident"] for each in told)
    machines = "machine" if len(told) == 1 else "machines"
    what = f"{len(told)} {machines}, {running} running, {cpu:.0f} % of a CPU, {size(resident)} resident"
    return f"emu top  {time.strftime('%H:%M:%S')}  {what}"


def _write(seen: Machines, order: str, colours: bool, height: int | None = None) -> None:
    """The whole picture; height: of the screen that it is to fill."""
    width = shutil.get_terminal_size().columns
    rows = seen.rows(order)
    lines = [(summary(rows)[:width], None), *table(rows, width)]
    if not rows:
        lines[1:] = [("no machine runs; start one: emu boot busybox-arm64"[:width], None)]
    shown = []
    for number, (text, row) in enumerate(lines):
        style = BOLD if number == 0 else REVERSE if number == 1 and rows else ""
        if row is not None and row.told["status"] != "running":
            style = DIM
        shown.append(f"{style}{text}{PLAIN}" if colours and style else text)
    if height is None:
        sys.stdout.write("".join(f"{text}\n" for text in shown))
    else:
        body = "\x1b[K\r\n".join(shown[:height])
        sys.stdout.write(f"\x1b[H{body}\x1b[K\x1b[J")
    sys.stdout.flush()


# -- the terminal --------------------------------------------------------------------------


class Screen:
    """A screen of its own, keys as they are typed; whatever ends it, the terminal is as before."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._keys)
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Screen:
        self._signal, self._signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        for number, handler in (
            (signal.SIGTERM, self._ended),
            (signal.SIGHUP, self._ended),
            (signal.SIGTSTP, self._stopped),
            (signal.SIGWINCH, lambda number, frame: None),  # it ends the wait
        ):
            self._handlers[number] = signal.signal(number, handler)
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._signal)
        os.close(self._signalled)

    def wait(self, seconds: float) -> bytes:
        """Keys, as soon as there are some; none after that time, or when the screen is to be drawn anew."""
        ready, _, _ = select.select([self._keys, self._signal], [], [], max(0.0, seconds))
        if self._signal in ready:
            os.read(self._signal, 4096)
        if self._keys not in ready:
            return b""
        try:
            return os.read(self._keys, 64) or b"q"
        except OSError:
            return b"q"  # the terminal is gone

    def _begin(self) -> None:
        tty.setcbreak(self._keys, termios.TCSANOW)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        sys.stdout.flush()

    def _leave(self) -> None:
        try:
            sys.stdout.write("\x1b[?25h\x1b[?1049l")
            sys.stdout.flush()
            termios.tcsetattr(self._keys, termios.TCSANOW, self._before)
        except (OSError, termios.error):
            pass  # the terminal is gone

    def _ended(self, number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its own terminal, and we ours when it lets us go on."""
        self._leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stopped)
        self._begin()


def live(seen: Machines, delay: float) -> None:
    """Shows them until q is typed."""
    colours = colourful(sys.stdout)
    order = "p"
    with Screen() as screen:
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                due = time.monotonic() + delay
                seen.look()
            _write(seen, order, colours, shutil.get_terminal_size().lines)
            for key in screen.wait(due - time.monotonic()).decode("latin-1").lower():
                if key == "q":
                    return
                order = key if key in ORDERS else order
