"""A machine in this process that is steered over sockets, and clients that a test writes bytes with."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from emu import Machine
from emu.monitor.client import Control
from emu.monitor.server import Monitors
from emu.run_state import RunState

SPINNING = (0x1400_0000).to_bytes(4, "little")  # b .


class Client:
    """A connection that speaks QMP, with a timeout on everything."""

    def __init__(self, path, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self._file = self.socket.makefile("rb")
        self.events = []
        self.told = []
        self.greeting = self.line()
        if negotiate:
            assert self.ask("qmp_capabilities") == {}

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def line(self):
        """The next message; {} when the connection is closed."""
        return json.loads(self._file.readline() or b"{}")

    def reply(self):
        """The next message that is no event; events before it are kept, with their data in `told`."""
        while True:
            message = self.line()
            if "event" not in message:
                return message
            self.events.append(message["event"])
            self.told.append((message["event"], message.get("data")))

    def event(self, name):
        """Waits for an event; returns its data."""
        while True:
            message = self.line()
            assert message, f"closed before {name}"
            if message.get("event") == name:
                return message.get("data")

    def command(self, name, /, **arguments):
        """What is answered, an error too.  `_` in names stands for a hyphen."""
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.send(json.dumps({"execute": name, "arguments": given}))
        return self.reply()

    def message(self, name, arguments):
        """What is answered to arguments that are passed as they are."""
        self.send(json.dumps({"execute": name, "arguments": arguments}))
        return self.reply()

    def ask(self, name, /, **arguments):
        """What a command returns."""
        answer = self.command(name, **arguments)
        assert "return" in answer, (name, arguments, answer)
        return answer["return"]

    def error(self, name, /, **arguments):
        """How a command fails."""
        answer = self.command(name, **arguments)
        assert "error" in answer, (name, arguments, answer)
        return answer["error"]["desc"]

    def human(self, line):
        """What the human monitor answers."""
        return self.ask("human-monitor-command", command_line=line).replace("\r\n", "\n")

    def close(self):
        self._file.close()
        self.socket.close()


class Steered:
    """path: of its QMP socket; run: its RunState; result: what ended it."""

    def __init__(self, machine, path, run, monitors):
        self.machine = machine
        self.path = path
        self.run = run
        self.monitors = monitors
        self.result = None
        self.failure = None

    def client(self, negotiate=True):
        return Client(self.path, negotiate)

    def wait(self, condition, what, seconds=30):
        """Until something is so, which it soon is."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not in {seconds} s: {what}"
            time.sleep(0.005)


@contextmanager
def steered(
    folder, *, board="virt", kernel=SPINNING, paused=False, no_shutdown=False, no_reboot=False, **options
):
    """A machine that runs, served by a thread; ended and closed behind the test."""
    given = {"arch": "aarch64", "accel": "tcg", "ram": 32 << 20, **options}
    path = Path(folder) / "qmp"
    with Machine(board, kernel=kernel, **given) as machine:
        run = RunState(machine, steered=True, no_shutdown=no_shutdown, no_reboot=no_reboot)
        control = Control(run, name="guest")
        monitors = Monitors(control)
        monitors.open("qmp", f"unix:{path},server=on,wait=off")
        made = Steered(machine, path, run, monitors)

        def serve():
            try:
                if paused:
                    machine.power_on()
                else:
                    run.cont()
                made.result = run.serve()
            except BaseException as error:
                made.failure = error
            finally:
                monitors.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield made
        finally:
            machine.loop.call(run.quit)
            thread.join(30)
            assert not thread.is_alive(), "the machine does not end"
        if made.failure is not None:
            raise made.failure
