"""dump-guest-memory: readelf and GDB read what a machine was, and nobody waits for a slow reader."""

import array
import json
import os
import re
import shutil
import socket
import subprocess

import pytest

from tests.emu.gdb_client import values
from tests.emu.steered import steered
from tests.emu.test_snapshot import COUNTER

BASE = 0x4000_0000
SIZE = 32 << 20


@pytest.fixture
def machine(tmp_path):
    with steered(tmp_path, kernel=COUNTER, ram=SIZE) as made:
        yield made


@pytest.fixture
def client(machine):
    made = machine.client()
    yield made
    made.close()


def gdb(core, arch, *commands):
    """What gdb-multiarch says of a core file."""
    program = shutil.which("gdb-multiarch")
    if program is None:
        pytest.skip("gdb-multiarch is not installed (apt-get install gdb-multiarch)")
    words = [program, "-nx", "-batch", "-ex", f"set architecture {arch}", "-ex", f"core-file {core}"]
    for each in commands:
        words += ["-ex", each]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def pass_descriptor(client, fd, name="dump"):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    client.socket.sendmsg([f'{{"execute":"getfd","arguments":{{"fdname":"{name}"}}}}'.encode()], rights)
    assert client.reply() == {"return": {}}


def test_gdb_and_readelf_find_memory_and_registers_in_it(machine, client, tmp_path):
    client.ask("dump-guest-memory", paging=False, protocol=f"file:{tmp_path}/core")
    assert client.events == ["STOP", "RESUME", "DUMP_COMPLETED"]
    told = client.ask("query-dump")
    assert told == {"status": "completed", "completed": told["total"], "total": told["total"]}
    assert told["total"] == SIZE
    client.ask("stop")
    client.ask("dump-guest-memory", paging=False, protocol=f"file:{tmp_path}/core")
    assert client.ask("query-status")["status"] == "paused"
    client.ask("pmemsave", val=BASE, size=SIZE, filename=str(tmp_path / "memory"))

    core = tmp_path / "core"
    shown = subprocess.run(["readelf", "-hlnW", core], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Type: +CORE", shown)
    assert re.search(r"Machine: +AArch64", shown)
    (load,) = re.findall(r"LOAD +(\S+) (\S+) (\S+) (\S+) (\S+) RWE", shown)
    offset, virtual, physical, in_file, in_memory = (int(each, 16) for each in load)
    assert (virtual, physical, in_file, in_memory) == (BASE, BASE, SIZE, SIZE)
    assert "NT_PRSTATUS" in shown
    assert core.read_bytes()[offset:] == (tmp_path / "memory").read_bytes()
    assert core.stat().st_blocks * 512 < SIZE // 4, "zeros are not holes"

    vcpu = machine.machine.cpus[0].vcpu
    names = ("x0", "x1", "x2", "sp", "pc", "cpsr")
    text = gdb(core, "aarch64", "info threads", *(f'printf "{name}=%#lx\\n", ${name}' for name in names))
    assert "Thread" in text or "LWP 1" in text, text
    for name, value in zip(names, vcpu.get(*names), strict=True):
        assert values(text, name) == [value], text


@pytest.mark.parametrize("accel", ["tcg", "kvm"])
def test_two_cpus_of_a_pc_are_threads(accel, tmp_path):
    """Memory in two parts, without what lies under the firmware's ROM."""
    from tests.conftest import usable

    usable(accel)
    count = 2 if accel == "kvm" else 1
    spin = bytes.fromhex("ebfe")
    with steered(
        tmp_path,
        board="pc",
        arch="x86_64",
        accel=accel,
        kernel=None,
        firmware=spin.rjust(1 << 17, b"\x90"),
        cpus=count,
    ) as machine:
        client = machine.client()
        client.ask("stop")
        client.ask("dump-guest-memory", paging=False, protocol=f"file:{tmp_path}/core")
        text = gdb(
            tmp_path / "core", "i386:x86-64", "info threads", 'printf "pc=%#lx\\n", $rip', "x/2xb 0x100000"
        )
        assert len(re.findall(r"LWP \d", text)) >= count, text
        assert values(text, "pc") == [machine.machine.cpus[0].vcpu.get("rip")[0]]
        assert re.search(r"0x100000:\s+0x00\s+0x00", text), text
        client.close()


def test_a_part_goes_to_a_descriptor(client, tmp_path):
    with (tmp_path / "part").open("wb") as file:
        pass_descriptor(client, file.fileno())
    client.ask("dump-guest-memory", paging=False, protocol="fd:dump", begin=BASE + 0x1000, length=0x3000)
    assert client.ask("query-dump")["total"] == 0x3000
    shown = subprocess.run(["readelf", "-lW", tmp_path / "part"], capture_output=True, text=True, check=True)
    assert re.search(rf"LOAD +\S+ 0x0*{BASE + 0x1000:x} 0x0*{BASE + 0x1000:x} 0x0*3000 ", shown.stdout)


def test_a_reader_that_takes_nothing_holds_nobody(machine, client, tmp_path):
    read, write = os.pipe()
    pass_descriptor(client, write)
    os.close(write)
    client.ask("dump-guest-memory", paging=False, protocol="fd:dump", detach=True)
    other = machine.client()
    assert other.ask("query-dump")["status"] == "active"
    assert other.ask("query-status")["status"] == "save-vm"
    for name, arguments in (
        ("cont", {}),
        ("system_reset", {}),
        ("migrate", {"uri": f"file:{tmp_path}/x"}),
        ("dump-guest-memory", {"paging": False, "protocol": f"file:{tmp_path}/x"}),
    ):
        assert "a dump is under way" in other.error(name, **arguments)
    assert "a dump is under way" in other.human("savevm x")
    with open(read, "rb") as file:
        got = file.read()
    assert client.event("DUMP_COMPLETED") == {
        "result": {"status": "completed", "completed": SIZE, "total": SIZE}
    }
    assert got[:4] == b"\x7fELF"
    assert len(got) > SIZE
    assert other.ask("query-status")["running"]
    other.close()


def test_who_waits_for_a_dump_may_go(machine, client):
    read, write = os.pipe()
    pass_descriptor(client, write)
    os.close(write)
    client.send('{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"fd:dump"}}')
    other = machine.client()
    machine.wait(lambda: other.ask("query-dump")["status"] == "active", "it begins")
    client.send('{"execute":"query-status"}')  # is answered behind the dump
    client.socket.settimeout(0.2)
    client.event("STOP")
    with pytest.raises(TimeoutError):
        client.line()
    client.socket.close()
    os.close(read)  # and so the dump fails
    machine.wait(lambda: other.ask("query-dump")["status"] == "failed", "it fails")
    assert other.ask("query-status")["running"]
    other.close()


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"paging": True, "protocol": "file:/tmp/x"}, "physical addresses"),
        ({"paging": False, "protocol": "exec:cat"}, "use file:PATH or fd:NAME"),
        ({"paging": False, "protocol": "fd:nothing"}, "has not been found"),
        ({"paging": False, "protocol": "file:/nonexistent/x"}, "No such file"),
        ({"paging": False, "protocol": "file:/tmp/x", "begin": 0}, "both, or neither"),
        ({"paging": False, "protocol": "file:/tmp/x", "begin": 0, "length": 4096}, "info mtree"),
        ({"paging": False, "protocol": "file:/tmp/x", "format": "win-dmp"}, "use elf"),
    ],
)
def test_what_cannot_be_dumped_is_told_and_the_machine_runs_on(client, arguments, cause):
    assert cause in client.error("dump-guest-memory", **arguments)
    assert client.ask("query-status")["running"]


def test_a_full_disk_fails_it_and_the_machine_runs_on(client):
    with open("/dev/full", "wb") as full:
        pass_descriptor(client, full.fileno())
    assert "No space" in client.error("dump-guest-memory", paging=False, protocol="fd:dump")
    assert client.ask("query-status")["running"]


def test_people_dump_too(client, tmp_path):
    assert client.human("info dump") == "Status: none\n"
    assert client.human(f"dump-guest-memory {tmp_path}/core") == ""
    assert client.human("info dump") == "Status: completed\nFinished: 100.00 %\n"
    assert "Error" in client.human("dump-guest-memory /nonexistent/core")


def test_saving_memory_lets_others_be_answered(machine, client, tmp_path):
    """And the guest goes on: its counter is another in each of two clients' files."""
    other = machine.client()
    for each, name in ((client, "a"), (other, "b")):
        arguments = {"val": BASE, "size": SIZE, "filename": str(tmp_path / name)}
        each.send(json.dumps({"execute": "pmemsave", "arguments": arguments}))
    third = machine.client()
    assert third.ask("query-status")["running"]
    assert client.reply() == other.reply() == {"return": {}}
    assert (tmp_path / "a").stat().st_size == (tmp_path / "b").stat().st_size == SIZE
    os.mkfifo(tmp_path / "pipe")
    assert "No such device" in third.error("pmemsave", val=BASE, size=SIZE, filename=str(tmp_path / "pipe"))
    held = os.open(tmp_path / "pipe", os.O_RDWR)
    assert "takes no more" in third.error("pmemsave", val=BASE, size=SIZE, filename=str(tmp_path / "pipe"))
    os.close(held)
    third.close()
    other.close()
