"""The human monitor: words, expressions, keys; on the console, over telnet and on a socket."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.monitor.expression import BadExpression, evaluate
from emu.monitor.terminal import LineEditor, Telnet
from tests.emu.steered import SPINNING, steered


def register(name):
    return {"pc": 0x1000}[name]


@pytest.mark.parametrize(
    ("text", "value", "left"),
    [
        ("1", 1, ""),
        ("0x10 rest", 16, " rest"),
        ("2*(3+$pc)", 2 * 0x1003, ""),
        ("1 + 2 * 3", 7, ""),
        ("-1", (1 << 64) - 1, ""),
        ("~0 & 0xff", 255, ""),
        ("1<<4|1", 17, ""),
        ("7 / 2 % 2", 1, ""),
        ("1 -n", 1, " -n"),
        ("1 - 1", 0, ""),
    ],
)
def test_expressions(text, value, left):
    assert evaluate(text, register) == (value, left)


@pytest.mark.parametrize("text", ["", "(1", "1/0", "x", "$", "1)", "+", "(" * 5000 + "1", "~" * 5000, "1%0"])
def test_what_is_no_expression_is_told(text):
    with pytest.raises(BadExpression):
        evaluate(text, register)


@given(st.recursive(st.integers(0, 99), lambda e: st.tuples(e, st.sampled_from("+-*&|^"), e), max_leaves=8))
def test_expressions_are_pythons(tree):
    def written(each):
        return str(each) if isinstance(each, int) else f"({written(each[0])} {each[1]} {written(each[2])})"

    text = written(tree)
    assert evaluate(text, register)[0] == eval(text) % (1 << 64)


def typed(keys, echo=False):
    editor = LineEditor(echo)
    return [line for each in keys for _, line in editor.keys(each) if line is not None]


def test_keys_become_lines():
    assert typed([b"ab", b"c\r\nd\x7fe\r", b"x\x15y z\x17w\n"]) == ["abc", "e", "y w"]


def test_up_and_down_bring_lines_back():
    assert typed([b"one\rtwo\r", b"\x1b[A\x1b[A\r", b"\x1b[A\x1b[B\x1b[Bthree\r"]) == [
        *("one", "two", "one", "three"),
    ]


@given(st.binary(max_size=50))
def test_any_keys_are_taken(keys):
    for echo in (False, True):
        typed([keys, b"\r"], echo)


def test_telnets_own_bytes_are_none_of_the_line():
    telnet = Telnet()
    sent = b"in\xff\xfd\x01fo\xff\xfa\x1f\x00\x50\xff\xff\xff\xf0 a\xff\xff"
    assert b"".join(telnet.plain(bytes([byte])) for byte in sent) == b"info a\xff"


@pytest.fixture
def client(tmp_path):
    with steered(tmp_path, paused=True) as machine:
        made = machine.client()
        yield made
        made.close()


def test_help_tells_every_command_and_info_every_topic(client):
    assert {"cont", "stop", "quit", "system_reset"} <= {
        line.split()[0].split("|")[0] for line in client.human("help").splitlines()
    }
    assert "info status" in client.human("info")
    assert client.human("help stop").startswith("stop|s")


def test_an_unknown_command_is_told_as_qemu_does(client):
    assert client.human("bogus cmd") == "unknown command: 'bogus'\n"
    assert client.human("info bogus") == "unknown command: 'info bogus'\n"
    assert client.human("") == ""


def test_words_that_do_not_fit_are_told(client):
    assert "print wants value" in client.human("print")
    assert "takes no 'x'" in client.human("stop x")
    assert "no register" in client.human("print $nothing")
    assert "no CPU 9" in client.human("cpu 9")
    assert "quotation mark" in client.human('help "') or "unknown" in client.human('help "')


def test_states_are_moved_by_words(client):
    assert client.human("info status") == "VM status: paused (prelaunch)\n"
    client.human("c")
    assert client.human("info status") == "VM status: running\n"
    client.human("stop")
    assert client.human("info status") == "VM status: paused\n"
    assert "80000" in client.human("print $pc")


# -- where people type -------------------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path):
    path = tmp_path / "kernel"
    path.write_bytes(SPINNING)
    return ["--arch", "aarch64", "--accel", "tcg", "--kernel", str(path)]


def test_ctrl_a_c_brings_the_monitor_and_takes_it_away(terminal, kernel):
    console = terminal(*kernel)
    console.type(b"\x01c")
    console.wait_for(b"(emu) ")
    console.type(b"info stat\x7fatus\x7f\x7f\x15info status\r")
    console.wait_for(b"VM status: running")
    console.type(b"\x01cnot for the monitor\r\x01c")
    console.wait_for(b"(emu) ")
    console.type(b"stop\rinfo status\r")
    assert b"unknown" not in console.wait_for(b"VM status: paused")
    console.type(b"quit\r")
    assert console.ended() == 0


def test_the_monitor_may_have_the_terminal(terminal, kernel):
    console = terminal(*kernel, "--monitor", "stdio", "--paused", "--name", "a name")
    console.wait_for(b"(emu) ")
    console.type(b"info status\rinfo name\r")
    console.wait_for(b"paused (prelaunch)")
    console.wait_for(b"a name")
    console.type(b"q\r")
    assert console.ended() == 0


def unix(path):
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(20)
    end.connect(path)
    return end


def connected(connect, console):
    """A connection, as soon as the monitor listens."""
    while True:
        try:
            return connect()
        except (ConnectionRefusedError, FileNotFoundError):
            assert console.process.poll() is None


def test_telnet_reaches_the_monitor(terminal, kernel):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    console = terminal(*kernel, "--monitor", f"telnet:127.0.0.1:{port},wait=on", "--serial", "null")
    end = connected(lambda: socket.create_connection(("127.0.0.1", port), timeout=20), console)
    end.sendall(b"\xff\xfd\x01info status\r\0quit\r\0")
    heard = b""
    while data := end.recv(4096):
        heard += data
    assert heard.startswith(b"\xff\xfb\x01\xff\xfb\x03")
    assert b"VM status: " in heard
    assert console.ended() == 0


def test_a_socket_answers_lines_without_echo(terminal, kernel, tmp_path):
    path = str(tmp_path / "monitor")
    console = terminal(*kernel, "--monitor", f"unix:{path},server=on,wait=off", "--serial", "null")
    with connected(lambda: unix(path), console) as end:
        end.sendall(b"info status\nquit\n")
        heard = b""
        while data := end.recv(4096):
            heard += data
    assert b"info status" not in heard
    assert b"VM status: running\r\n(emu) " in heard
    assert console.ended() == 0
