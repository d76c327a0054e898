"""A machine under QMP: run states and their events, several clients at once, and QEMU's own answers."""

import array
import asyncio
import json
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emu.devices.test_exit import SifiveTest
from tests.emu.steered import SPINNING, Client, steered
from tests.emu.system import program

ROOT = Path(__file__).parents[2]
EXIT = 0x0B00_1000


def ending(value):
    """An arm64 guest that writes `value` to SifiveTest."""
    return struct.pack(
        "<4I", 0x52800000 | (value & 0xFFFF) << 5, 0xD2A16001, 0x91400421, 0xB9000020
    ) + struct.pack("<I", 0x14000000)


@pytest.fixture
def machine(tmp_path):
    with steered(tmp_path) as made:
        yield made


@pytest.fixture
def client(machine):
    made = machine.client()
    yield made
    made.close()


# -- run states ------------------------------------------------------------------------------


def test_events_come_before_the_reply_of_what_caused_them(client):
    for name, events in (("stop", ["STOP"]), ("cont", ["RESUME"]), ("system_reset", ["RESET"])):
        client.events.clear()
        client.ask(name)
        assert client.events == events


def test_a_machine_stops_and_goes_on(client, machine):
    assert client.ask("query-status") == {"running": True, "singlestep": False, "status": "running"}
    client.ask("stop")
    assert client.ask("query-status")["status"] == "paused"
    before = machine.machine.clock.now()
    assert client.ask("query-status")["running"] is False
    assert machine.machine.clock.now() == before
    client.ask("cont")
    assert client.ask("query-status")["running"] is True
    machine.wait(lambda: machine.machine.clock.now() > before, "time goes on")


def test_a_stopped_machine_is_reset_to_prelaunch(client):
    client.ask("stop")
    client.ask("system_reset")
    assert client.ask("query-status")["status"] == "prelaunch"
    client.ask("cont")
    assert client.ask("query-status")["status"] == "running"


def test_stop_twice_tells_once(client):
    client.ask("stop")
    client.ask("stop")
    assert client.events == ["STOP"]


def test_quit_ends_it_with_its_event_first(machine, client):
    client.ask("quit")
    assert client.events == ["SHUTDOWN"]
    assert client.line() == {}
    machine.wait(lambda: machine.result is not None, "the end")
    assert machine.result.reason == "host-qmp-quit"


def test_a_guests_end_is_told_and_ends_the_process(tmp_path):
    with steered(tmp_path, kernel=ending(0x5555), devices=[(SifiveTest(), EXIT)], paused=True) as machine:
        client = machine.client()
        client.ask("cont")
        assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        assert client.line() == {}
        client.close()
    assert machine.result.reason == "guest-shutdown"


def test_with_no_shutdown_it_stays_and_wants_a_reset(tmp_path):
    options = {"kernel": ending(0x5555), "devices": [(SifiveTest(), EXIT)], "paused": True}
    with steered(tmp_path, no_shutdown=True, **options) as machine:
        client = machine.client()
        client.ask("cont")
        assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        assert client.line()["event"] == "STOP"
        assert client.ask("query-status")["status"] == "shutdown"
        assert "reset" in client.error("cont")
        client.ask("system_reset")
        assert client.ask("query-status")["status"] == "prelaunch"
        client.ask("cont")
        client.event("STOP")
        client.close()


def test_a_guests_reset_is_told_and_done(tmp_path):
    with steered(tmp_path, kernel=ending(0x7777), devices=[(SifiveTest(), EXIT)], paused=True) as machine:
        client = machine.client()
        client.ask("cont")
        for _ in range(3):
            assert client.event("RESET") == {"guest": True, "reason": "guest-reset"}
        client.close()


def test_no_reboot_makes_a_guests_reset_its_end(tmp_path):
    options = {"kernel": ending(0x7777), "devices": [(SifiveTest(), EXIT)], "paused": True}
    with steered(tmp_path, no_reboot=True, **options) as machine:
        client = machine.client()
        client.ask("cont")
        assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-reset"}
        client.close()


def test_what_no_engine_continues_from_stops_the_machine_and_not_the_process(tmp_path):
    with steered(tmp_path, paused=True) as machine:
        client = machine.client()
        client.ask("cont")
        from accel.errors import GuestFault

        machine.machine.fail(GuestFault("broken"))
        client.event("STOP")
        assert client.ask("query-status")["status"] == "internal-error"
        assert "reset" in client.error("cont")
        client.ask("system_reset")
        client.ask("cont")
        assert client.ask("query-status")["status"] == "running"
        client.close()


# -- clients -----------------------------------------------------------------------------------


def test_several_clients_are_told_of_what_one_does(machine):
    clients = [machine.client() for _ in range(5)]
    clients[0].ask("stop")
    for each in clients[1:]:
        assert each.line()["event"] == "STOP"
    for each in clients:
        each.close()


def test_who_has_not_negotiated_hears_nothing(machine, client):
    silent = machine.client(negotiate=False)
    client.ask("stop")
    silent.send('{"execute":"qmp_capabilities"}')
    assert silent.line() == {"return": {}}
    silent.close()


def test_a_client_that_hangs_up_in_a_command_leaves_nothing(machine, client):
    other = machine.client()
    other.send('{"execute":"sto')
    other.close()
    machine.wait(lambda: len(machine.monitors.sessions) == 1, "one session is left")
    assert client.ask("query-status")["running"]


def test_commands_that_come_together_are_answered_in_order(client):
    client.send("".join(json.dumps({"execute": "query-status", "id": n}) for n in range(500)))
    assert [client.reply()["id"] for _ in range(500)] == list(range(500))


def test_a_client_that_does_not_read_holds_nobody(machine, client):
    slow = machine.client()
    slow.socket.setblocking(False)
    asked = b'{"execute":"query-qmp-schema"}' * 200
    sent = 0
    try:
        for _ in range(1000):
            sent += slow.socket.send(asked)
    except BlockingIOError:
        pass
    assert client.ask("query-status")["running"]
    assert all(len(session._waiting) < 4 << 20 for session in machine.monitors.sessions)
    slow.socket.settimeout(20)
    assert slow.reply()["return"]
    slow.close()


def test_the_socket_is_the_owners_alone_and_goes_with_the_machine(tmp_path):
    with steered(tmp_path) as machine:
        assert stat.S_IMODE(machine.path.stat().st_mode) == 0o600
    assert not machine.path.exists()


def test_a_descriptor_is_passed_named_and_closed(client):
    read, write = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [write]))]
    client.socket.sendmsg([b'{"execute":"getfd","arguments":{"fdname":"out"}}'], rights)
    assert client.reply() == {"return": {}}
    os.close(write)
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):  # somebody has the other end
        os.read(read, 1)
    client.ask("closefd", fdname="out")
    assert os.read(read, 1) == b""
    os.close(read)
    assert "not found" in client.error("closefd", fdname="out")
    assert "SCM_RIGHTS" in client.error("getfd", fdname="x")


def test_descriptors_of_a_client_go_with_it(machine):
    client = machine.client()
    read, write = os.pipe()
    for name in ("a", ""):  # one is named, one only passed
        command = f'{{"execute":"getfd","arguments":{{"fdname":"{name}"}}}}'.encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [write]))]
        client.socket.sendmsg([command], rights)
        client.reply()
    os.close(write)
    client.close()
    assert os.read(read, 1) == b""
    os.close(read)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("", "use unix:"),
        ("stdio", "use unix:"),
        ("unix:", "use unix:"),
        ("unix:/nonexistent/x,server=on", "No such file"),
        ("unix:/nonexistent/x", "start what listens"),
        ("tcp:127.0.0.1:x,server=on", "no HOST:PORT"),
        ("tcp:127.0.0.1:99999,server=on", "no HOST:PORT"),
        ("fd:1000000", "no socket"),
        ("fd:x", "no descriptor"),
        ("unix:/tmp/x,sever=on", "no option"),
    ],
)
def test_an_end_that_cannot_be_had_is_one_line(machine, words, cause):
    from accel.errors import EmuError

    with pytest.raises(EmuError, match=cause) as raised:
        machine.monitors.open("qmp", words)
    assert "\n" not in str(raised.value)


def test_tcp_is_for_this_host_and_another_is_warned_of(machine):
    ends = []
    machine.machine.loop.call(
        lambda: ends.extend(
            machine.monitors.open("qmp", f"tcp:{host}:0,server=on,wait=off") for host in ("", "0.0.0.0")
        )
    )
    machine.wait(lambda: len(ends) == 2, "both listen")
    assert ends[0].socket.getsockname()[0] == "127.0.0.1"
    assert ends[0].warning == ""
    assert "no password" in ends[1].warning


def test_an_inherited_descriptor_that_listens_is_accepted_from(tmp_path, machine):
    path = str(tmp_path / "inherited")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    fd = listener.detach()
    machine.machine.loop.call(lambda: machine.monitors.open("qmp", f"fd:{fd}"))
    client = Client(path)
    assert client.ask("query-status")["running"]
    client.close()


# -- judges that we did not write -----------------------------------------------------------


def test_qemus_own_client_library_steers_the_machine(machine):
    qmp = pytest.importorskip("qemu.qmp", reason="qemu.qmp (PyPI) is not installed")

    async def talk():
        client = qmp.QMPClient("test")
        await client.connect(str(machine.path))
        listener = qmp.EventListener(("STOP", "RESUME"))
        client.register_listener(listener)
        await client.execute("stop")
        status = await client.execute("query-status")
        await client.execute("cont")
        events = [(await listener.get())["event"] for _ in range(2)]
        with pytest.raises(qmp.ExecuteError, match="has not been found"):
            await client.execute("nonsense")
        await client.disconnect()
        return status, events

    status, events = asyncio.run(talk())
    assert status["status"] == "paused"
    assert events == ["STOP", "RESUME"]


def test_the_example_tours_a_machine_with_qemus_client_library():
    """It stops at the first error, and the machine's status is its own."""
    pytest.importorskip("qemu.qmp", reason="qemu.qmp (PyPI) is not installed")
    program()
    done = subprocess.run(
        [sys.executable, ROOT / "examples/qmp_tour.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count, ended = re.search(r"^(\d+) commands were answered; (.*)$", done.stdout, re.MULTILINE).groups()
    assert int(count) >= 30
    assert ended == "the machine ended with status 0"
    for event in ("RESUME", "STOP", "RESET", "POWERDOWN", "MIGRATION", "SHUTDOWN"):
        assert f"    * {event}" in done.stdout, event


class Qemu:
    """qemu-system-aarch64 on the same guest, paused."""

    def __init__(self, folder, *options):
        binary = shutil.which("qemu-system-aarch64")
        if binary is None:
            pytest.skip("qemu-system-aarch64 is not installed")
        self.path = folder / "qemu"
        kernel = folder / "kernel"
        kernel.write_bytes(SPINNING)
        words = [binary, "-M", "virt", "-cpu", "cortex-a57", "-m", "32", "-display", "none", "-nodefaults"]
        words += ["-name", "guest", "-S", "-kernel", str(kernel), *options]
        words += ["-qmp", f"unix:{self.path},server=on,wait=off"]
        self.process = subprocess.Popen(words)
        end = time.monotonic() + 60
        while not self.path.exists():
            assert time.monotonic() < end
            time.sleep(0.02)

    def __enter__(self):
        return Client(self.path)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


WRONG = (
    '{"execute":"foo"}',
    '{"execute":"foo","arguments":[]}',
    '{"execute":"query-status","x":1}',
    '{"execute":"query-status","arguments":{"a":1}}',
    '{"execute":"getfd","arguments":{"fdname":1}}',
    '{"execute":"getfd"}',
    '{"execute":"getfd","arguments":{"fdname":"a"}}',
    '{"execute":"closefd","arguments":{"fdname":"a"}}',
    '{"execute":1}',
    '{"exec-oob":"query-status"}',
    "{}",
    "[1]",
    "12 ",
    '"abc"',
    '{"execute":"qmp_capabilities"}',
    '{"execute":"query-status","id":{"a":[1]}}',
)


def test_wrong_requests_are_answered_as_qemu_does(tmp_path):
    with steered(tmp_path, paused=True) as machine, Qemu(tmp_path) as theirs:
        ours = machine.client()
        for text in WRONG:
            for client in (ours, theirs):
                client.send(text)
            assert ours.reply() == theirs.reply(), text
        ours.close()


def test_run_states_and_events_are_qemus(tmp_path):
    walk = "cont cont stop stop system_reset cont system_reset stop cont stop system_reset"
    with steered(tmp_path, paused=True) as machine, Qemu(tmp_path) as theirs:
        ours = machine.client()
        seen = {}
        for client in (ours, theirs):
            for name in walk.split():
                client.ask(name)
                client.events.append(client.ask("query-status"))
            seen[client] = client.events
        assert seen[ours] == seen[theirs]
        ours.close()
