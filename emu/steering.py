"""A machine that was built is run: by its monitors, the person at the terminal, and signals.

emu/boot.py and emu/system end here, whatever words asked for the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from emu.backends.streams import SocketChardev
from emu.monitor.client import Client, Control
from emu.run_state import RunState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

    from emu.backends.chardev import Chardev
    from emu.console import Console
    from emu.machine import Machine, Result
    from emu.monitor.server import Monitors
    from emu.monitor.terminal import MonitorFront
    from emu.presence import Presence
    from emu.signals import Signals


class Monitor:
    """A monitor to be opened.

    kind: qmp or hmp; end: words of emu/monitor/server.py, or a line's host end; label: what monitors call it.
    """

    def __init__(self, kind: str, end: str | Chardev, label: str = "") -> None:
        self.kind = kind
        self.end = end
        self.label = label


class Orders:
    """How a machine is to be run.

    gdb: where a debugger may come in, by emu/gdb/sockets.py's words; paused: it waits for a monitor or for
    that; seen: emu top finds it; incoming: it waits for its state, from where this says, or from where a
    monitor will say ("defer"); restore: a file that it goes on from; told: takes lines for the person who
    started it; ready: called once every
    monitor can be reached; the others are RunState's and Control's.
    """

    def __init__(
        self,
        monitors: Iterable[Monitor] = (),
        *,
        gdb: str | None = None,
        name: str = "",
        uuid: str = "",
        paused: bool = False,
        seen: bool = True,
        incoming: str = "",
        restore: str | None = None,
        no_shutdown: bool = False,
        no_reboot: bool = False,
        timeout: float | None = None,
        told: Callable[[str], None] = lambda text: None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.monitors = list(monitors)
        self.gdb = gdb
        self.name = name
        self.uuid = uuid
        self.paused = paused
        self.seen = seen
        self.incoming = incoming
        self.restore = restore
        self.no_shutdown = no_shutdown
        self.no_reboot = no_reboot
        self.timeout = timeout
        self.told = told
        self.ready = ready


def steer(machine: Machine, orders: Orders, signals: Signals, console: Console | None = None) -> Result:
    """Runs the machine to its end; console: the terminal, if a line ends there.

    A signal ends it too: whoever calls asks `signals` then.
    """
    run = RunState(
        machine,
        no_shutdown=orders.no_shutdown,
        no_reboot=orders.no_reboot,
        steered=bool(orders.monitors) or orders.gdb is not None,
        told=orders.told,
    )
    control = Control(run, name=orders.name, uuid=orders.uuid)
    monitors = _open(control, orders) if orders.monitors else None
    presence = _be_seen(control) if orders.seen else None
    try:
        if orders.gdb is not None:
            _let_debugger_in(control, orders)
        if console is not None:
            _connect(console, control)
        signals.running = True
        orders.ready()
        if monitors is not None:
            monitors.wait(signals.pending)
        _await_lines(machine, signals)
        if orders.incoming:
            run.enter("inmigrate")
            run.starts = not orders.paused
            if orders.incoming != "defer":
                from emu.snapshot.commands import receive

                receive(run, orders.incoming)
        elif orders.restore is not None:
            machine.load(orders.restore)
            run.enter("paused" if orders.paused else "running")
            if not orders.paused:
                machine.start()
        elif orders.paused:
            machine.power_on()
        else:
            run.cont()
        return run.serve(timeout=orders.timeout, until=signals.pending)
    finally:
        signals.running = False
        if presence is not None:
            presence.close()
        if control.monitors is not None:
            control.monitors.close()


def _await_lines(machine: Machine, signals: Signals) -> None:
    """Serves until somebody is at every line that wants so."""
    awaited = [end for end in machine.inventory.chardevs.values() if isinstance(end, SocketChardev)]
    with machine.loop.hearing():
        while any(end.awaited for end in awaited) and not signals.pending():
            machine.turn()


def _open(control: Control, orders: Orders) -> Monitors:
    from emu.monitor.server import Monitors

    monitors = Monitors(control)
    try:
        for asked in orders.monitors:
            if not isinstance(asked.end, str):
                _monitor_at(asked, control)
                continue
            end = monitors.open(asked.kind, asked.end)
            end.label = asked.label or end.label
            if end.warning:
                orders.told(end.warning)
    except BaseException:
        monitors.close()
        raise
    return monitors


def _be_seen(control: Control) -> Presence:
    from emu.presence import Presence

    def came(connection: socket) -> None:
        from emu.monitor.server import Monitors

        (control.monitors or Monitors(control)).begin(connection, "qmp")

    return Presence(control.machine.loop, came)


def _let_debugger_in(control: Control, orders: Orders) -> None:
    assert orders.gdb is not None
    server = control.machine.gdb(orders.gdb, control)
    for line in (f"a debugger may come to {server.place}", server.warning, server.lacks):
        if line:
            orders.told(line)


def _connect(console: Console, control: Control) -> None:
    """What the commands after Ctrl-A do."""
    machine, run = control.machine, control.run
    console.ended = lambda: run.quit("host-ui")
    console.powerdown = run.powerdown
    console.lost = lambda: machine.fail(BrokenPipeError())
    fronts: list[MonitorFront] = []

    def monitor() -> Callable[[bytes], None]:
        if not fronts:
            from emu.monitor.terminal import HmpSpeech, MonitorFront

            fronts.append(MonitorFront(HmpSpeech(Client(control), echo=True), console, machine.loop))
        fronts[0].begin()
        return fronts[0].receive

    console.monitor = monitor


def _monitor_at(asked: Monitor, control: Control) -> None:
    """A monitor at a line's host end, as the terminal itself (--monitor stdio)."""
    from emu.monitor.speech import QmpSpeech
    from emu.monitor.terminal import HmpSpeech, MonitorFront

    chardev: Any = asked.end
    client = Client(control)
    speech = QmpSpeech(client) if asked.kind == "qmp" else HmpSpeech(client, echo=True)
    front = MonitorFront(speech, chardev, control.machine.loop)
    chardev.connect(front)
    control.run.listeners.append(front.told)
    chardev.open(control.machine.loop)
    front.begin()
