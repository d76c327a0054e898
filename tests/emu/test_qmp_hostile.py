"""Clients that mean harm, or make mistakes: a QMP error or a closed connection, and the machine runs on."""

import itertools
import json
import os
import random
import resource
import socket
from pathlib import Path
from typing import Literal, get_args, get_origin, is_typeddict

import pytest

import emu.block
from emu.monitor.command import alternatives, commands, json_type, members
from emu.monitor.hmp import human_commands
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from tests.emu.steered import steered


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # commands are told to write files called x
    emu.block.create(tmp_path / "disk", 1 << 20, format="raw")
    devices = [VirtioBlk(emu.block.open(tmp_path / "disk", format="raw")), VirtioBalloon()]
    with steered(tmp_path, virtio=devices) as made:
        yield made
        after = made.client()
        assert after.ask("query-status")["status"] in ("running", "paused", "prelaunch")
        after.close()


def memory():
    """Bytes of this process in the host's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def sent_until_closed(client, pieces):
    """Sends until the other end hangs up; returns what came back."""
    heard = b""
    client.socket.settimeout(20)
    try:
        for piece in pieces:
            client.socket.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    try:
        while data := client.socket.recv(65536):
            heard += data
    except ConnectionResetError:
        pass
    client.close()
    return heard


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"execute":'])
def test_deep_nesting_is_an_error_and_the_end(machine, opening):
    heard = sent_until_closed(machine.client(), [opening * 100_000] * 20)
    assert b"levels deep" in heard or heard == b""


@pytest.mark.parametrize(
    "start", [b'{"execute":"', b'"', b'{"execute":"stop","arguments":{"', b"1", b'{"a":[1']
)
def test_a_string_of_100_mib_costs_a_part_of_it(machine, start):
    before = memory()
    most = [0]
    piece = (b"1," if start.endswith(b"[1") else b"1") * (1 << 19)

    def pieces():
        yield start
        for _ in range(100 << 20 >> 19):
            most[0] = max(most[0], memory() - before)
            yield piece

    heard = sent_until_closed(machine.client(), pieces())
    assert b"more than" in heard or heard == b""
    assert most[0] < 80 << 20


def test_a_client_that_sends_nonsense_and_never_reads_is_held(machine):
    client = machine.client()
    client.socket.setblocking(False)
    before = memory()
    total = 0
    try:
        while total < 64 << 20:
            total += client.socket.send(b"{}" * 30000)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    assert memory() - before < 80 << 20
    other = machine.client()
    assert other.ask("query-status")["running"]
    other.close()
    client.close()


def test_random_bytes_are_errors_or_the_end(machine):
    rng = random.Random(1)
    words = [
        b'{"execute":',
        b'"stop"',
        b"}",
        b"{",
        b"[",
        b'"',
        b"\\",
        b"\xff",
        b"\n",
        b":",
        b"1e999",
        b"null",
        b",",
    ]
    for _ in range(150):
        client = machine.client(negotiate=rng.random() < 0.8)
        try:
            client.send(b"".join(rng.choice(words) for _ in range(rng.randrange(40))))
            if rng.random() < 0.3:
                client.send(rng.randbytes(rng.randrange(200)))
        except (BrokenPipeError, ConnectionResetError):
            pass
        client.close()


def test_half_a_command_and_a_hang_up_everywhere(machine):
    text = b'{"execute":"query-name","arguments":{},"id":"\xc3\xa4"}'
    for end in range(len(text)):
        client = machine.client()
        client.send(text[:end])
        client.close()


def test_a_thousand_connections(machine):
    """Most are closed at once, and those that hold their places do not end the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    open_ones = []
    try:
        for _ in range(1000):
            end = socket.socket(socket.AF_UNIX)
            end.connect(str(machine.path))
            end.settimeout(20)
            open_ones.append(end)
        greeted = sum(bool(end.recv(4096)) for end in open_ones)
        assert 1 <= greeted < 1000
    finally:
        for end in open_ones:
            end.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    machine.wait(lambda: not machine.monitors.sessions, "all are gone")


def test_a_client_passes_descriptors_without_end(machine):
    client = machine.client()
    read, write = os.pipe()
    for _ in range(200):
        socket.send_fds(client.socket, [b" "], [write] * 20)
    client.ask("query-status")
    held = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert held < 200
    client.close()
    os.close(read)
    os.close(write)


# -- arguments, from the schema ---------------------------------------------------------------------

WRONG = (
    *(None, True, 0, 1, -1, 1 << 31, 1 << 63, -(1 << 63), 1 << 64, 1 << 200, 1.5, 1e308),
    *("", "x", "/", "\n", "a" * 5000, "ä\u2028", "device[0]", "/machine/../..", "%s%n"),
    *([], [[]], [None], ["x"], [{}], {}, {"": 1}, {"a": {"b": []}}, [1] * 500),
)


def fitting(kind):
    """A value of a type."""
    kind = alternatives(kind)[0]
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if is_typeddict(kind):
        return {name: fitting(of) for name, (of, optional) in members(kind).items() if not optional}
    return {str: "x", bool: False, list: [], dict: {}, float: 1.0}.get(json_type(kind), 1)


def inside(kind, value):
    """Values of a type with something wrong inside."""
    for each in alternatives(kind):
        if get_origin(each) is list:
            yield [value]
            for within in inside(get_args(each)[0], value):
                yield [within]
        elif is_typeddict(each):
            yield fitting(each) | {"unknown": value}
            for name, (of, _) in members(each).items():
                yield fitting(each) | {name: value}
                for within in inside(of, value):
                    yield fitting(each) | {name: within}


ENDS = ("quit",)  # ends the machine, as it should


@pytest.mark.parametrize("group", range(8))
def test_wrong_arguments_of_every_command(machine, group, capfd):
    client = machine.client()
    names = sorted(set(commands()) - set(ENDS))[group::8]
    for name in names:
        command = commands()[name]
        right = {each.name: fitting(each.type) for each in command.arguments.values() if not each.optional}
        tried = [{**right, "unknown": 1}, right]
        for argument, wrong in itertools.product(command.arguments.values(), WRONG):
            tried.append(right | {argument.name: wrong})
            tried += [right | {argument.name: each} for each in inside(argument.type, wrong)]
            if argument.name in right:
                tried.append({key: value for key, value in right.items() if key != argument.name})
        if command.open:
            tried += [right | {"node-name": "n", "file": wrong, "filename": wrong} for wrong in WRONG]
        for start in range(0, len(tried), 50):
            few = tried[start : start + 50]
            for arguments in few:
                client.send(json.dumps({"execute": name, "arguments": arguments}))
            for arguments in few:
                answer = client.reply()
                assert set(answer) & {"return", "error"}, (name, arguments, answer)
                assert "inside emu" not in json.dumps(answer), (name, arguments, answer)
    client.close()
    assert "Traceback" not in capfd.readouterr().err


def test_wrong_words_of_every_human_command(machine, capfd):
    client = machine.client()
    rng = random.Random(2)
    words = [
        "",
        "x",
        "-1",
        "0x",
        "1",
        "/",
        "/9999999x",
        "/xxx",
        "-n",
        '"',
        '"a b"',
        "$pc",
        "$x",
        "(",
        "%",
        "off",
    ]
    words += [
        "99999999999999999999999999",
        "/4xw",
        "/2i",
        "all",
        "\t",
        "ä",
        "0",
        "-",
        "--",
        "0xffffffffffffffff",
    ]
    for name in sorted(human_commands()):
        if name in ("quit", "q"):
            continue
        for _ in range(25):
            line = " ".join([name, *(rng.choice(words) for _ in range(rng.randrange(4)))])
            if rng.random() < 0.3:
                line = line.replace(" /", "/")
            shown = client.human(line)
            assert "inside emu" not in shown, (line, shown)
    client.close()
    assert "Traceback" not in capfd.readouterr().err
