"""QMP's migrate: a steered machine goes to another process, or to a file and comes back, as by libvirt."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from tests.emu.steered import Client, steered
from tests.emu.test_snapshot import COUNTER

COUNTED = 0x4010_0000


def counted(client):
    """What the guest has counted."""
    return int(client.human(f"xp /1gx {COUNTED:#x}").split(":")[1], 16)


def wait(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(client):
    """Waits for a migration's end; its status."""
    wait(lambda: client.ask("query-migrate").get("status") not in ("setup", "active", None))
    return client.ask("query-migrate")["status"]


class Other:
    """A machine in another process, which waits for its state; path: of its monitor."""

    def __init__(self, folder, *words, passed=()):
        (folder / "kernel").write_bytes(COUNTER)
        self.path = folder / "other"
        self.path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", "import sys; from emu.system import main; sys.exit(main('aarch64'))"),
                *("-M", "virt", "-accel", "tcg", "-m", "32M"),
                *("-nodefaults", "-display", "none", "-kernel", str(folder / "kernel")),
                *("-qmp", f"unix:{self.path},server=on,wait=off", *words),
            ],
            pass_fds=passed,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.client = None

    def __enter__(self):
        wait(self._connected)
        return self

    def _connected(self):
        assert self.process.poll() is None, self.process.communicate()
        try:
            self.client = Client(self.path)
        except (FileNotFoundError, ConnectionRefusedError):  # it does not listen yet
            return False
        return True

    def __exit__(self, *_):
        self.client.close()
        self.process.kill()
        self.process.communicate()


MACHINE = {"kernel": COUNTER}


def running(client):
    wait(lambda: counted(client) > 0)
    return client


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_a_machine_that_runs_goes_on_in_another_process(scheme, tmp_path):
    where = f"unix:{tmp_path}/way"
    if scheme == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as free:
            where = f"tcp:127.0.0.1:{free.getsockname()[1]}"
    with steered(tmp_path, **MACHINE) as here, Other(tmp_path, "-incoming", where) as there:
        client = running(here.client())
        assert there.client.ask("query-status")["status"] == "inmigrate"
        assert client.ask("migrate", uri=where) == {}
        assert client.events == ["MIGRATION"]  # setup, before the reply
        assert ended(client) == "completed"
        assert client.events[1:] == ["MIGRATION_PASS", "MIGRATION", "STOP", "MIGRATION"]
        assert client.ask("query-status")["status"] == "postmigrate"
        found = client.ask("query-migrate")
        assert found["ram"]["transferred"] > 0
        assert found["ram"]["remaining"] == 0
        assert ended(there.client) == "completed"
        wait(lambda: there.client.ask("query-status")["status"] == "running")
        assert there.client.events[-2:] == ["MIGRATION", "RESUME"]
        left = counted(client)
        wait(lambda: counted(there.client) > left)


def test_save_and_restore_as_libvirt_does_them(tmp_path):
    """stop, getfd, migrate to the descriptor; -S -incoming defer, migrate-incoming from one, cont."""
    with open(tmp_path / "saved", "w+b") as file:
        with steered(tmp_path, **MACHINE) as here:
            client = running(here.client())
            client.ask("stop")
            at = counted(client)
            message = json.dumps({"execute": "getfd", "arguments": {"fdname": "migrate"}}).encode()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
            client.socket.sendmsg([message], rights)
            assert client.reply()["return"] == {}
            assert client.error("migrate", uri="fd:other").startswith("File descriptor named 'other'")
            client.events.clear()
            client.ask("migrate", detach=True, resume=False, uri="fd:migrate")
            assert ended(client) == "completed"
            assert client.events == ["MIGRATION", "MIGRATION_PASS", "MIGRATION", "MIGRATION"]
            assert client.ask("query-status")["status"] == "postmigrate"
            client.ask("cont")
            wait(lambda: counted(client) > at)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        os.set_inheritable(file.fileno(), True)
        with Other(tmp_path, "-S", "-incoming", "defer", passed=(file.fileno(),)) as there:
            there.client.ask("migrate-incoming", uri=f"fd:{file.fileno()}")
            assert ended(there.client) == "completed"
            assert there.client.ask("query-status") == {
                "status": "paused",
                "singlestep": False,
                "running": False,
            }
            assert counted(there.client) == at
            there.client.ask("cont")
            wait(lambda: counted(there.client) > at)


def test_a_file_and_a_command_take_it_too(tmp_path):
    with steered(tmp_path, **MACHINE) as here:
        client = running(here.client())
        client.ask("migrate", uri=f"file:{tmp_path}/file")
        assert ended(client) == "completed"
        client.ask("migrate", uri=f"exec:cat > {tmp_path}/by-command")
        assert ended(client) == "completed"
        assert client.human("info migrate").startswith("Migration status: completed")
        at = counted(client)
        client.ask("migrate", uri="exec:exit 3")
        assert ended(client) == "failed"
        assert client.ask("query-status")["status"] == "postmigrate"
    for name in ("file", "by-command"):
        with Other(tmp_path, "-S", "-incoming", f"exec:cat {tmp_path}/{name}") as there:
            assert ended(there.client) == "completed"
            assert counted(there.client) == at


def test_one_that_cannot_go_goes_on_here(tmp_path):
    with steered(tmp_path, **MACHINE) as here:
        client = running(here.client())
        assert client.ask("query-migrate") == {}
        assert "No such file" in client.error("migrate", uri=f"unix:{tmp_path}/nobody")
        assert "unknown migration protocol" in client.error("migrate", uri="rdma:1")
        assert client.ask("query-status")["status"] == "running"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            message = json.dumps({"execute": "getfd", "arguments": {"fdname": "x"}}).encode()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [ours.fileno()]))]
            client.socket.sendmsg([message], rights)
            client.reply()
            here.machine.memory.load(0x4080_0000, os.urandom(8 << 20))  # more than a socket holds
            client.events.clear()
            client.ask("migrate", uri="fd:x")
            wait(lambda: client.ask("query-status")["status"] == "finish-migrate")
            assert "under way" in client.error("cont")
            assert "in progress" in client.error("migrate", uri="exec:cat")
            client.ask("migrate_cancel")
            assert client.ask("query-migrate")["status"] == "cancelled"
            assert client.events[-2:] == ["RESUME", "MIGRATION"]
        at = counted(client)
        wait(lambda: counted(client) > at)


def test_what_does_not_fit_ends_the_process_that_waits_for_it(tmp_path):
    with steered(tmp_path, **MACHINE) as here:
        client = running(here.client())
        client.ask("migrate", uri=f"file:{tmp_path}/file")
        assert ended(client) == "completed"
    data = (tmp_path / "file").read_bytes()
    for bad, reason in (
        (data[:-30], "cut off"),
        (data[:3000] + b"x" + data[3001:], "damaged"),
        (b"", "cut off"),
    ):
        (tmp_path / "bad").write_bytes(bad)
        with Other(tmp_path, "-incoming", "defer") as there:
            there.client.ask("migrate-incoming", uri=f"exec:cat {tmp_path}/bad")
            _, text = there.process.communicate(timeout=60)
        assert reason in text
        assert len(text.splitlines()) == 1
        assert there.process.returncode == 2
