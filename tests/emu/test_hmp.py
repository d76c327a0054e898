"""The human monitor: words, expressions, keys; on the console, over telnet and on a socket."""

import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.monitor.expression import BadExpression, evaluate
from emu.monitor.hmp import human_commands
from emu.monitor.terminal import LineEditor, Telnet
from tests.emu.steered import SPINNING, steered
from tests.emu.test_qmp import Qemu


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


def test_who_runs_the_guest_and_what_it_did_is_shown_while_it_runs(client):
    client.human("c")
    told = client.human("info jit")
    assert "is translated (tcg)" in told
    assert "\nCPU 0 took " in told
    assert client.human("info kvm") == "kvm support: disabled\n"
    assert client.human("info status") == "VM status: running\n"


# -- memory, as QEMU shows it ------------------------------------------------------------------------

AT = 0x4010_0000
FORMATS = [f"{count}{format}{size}" for count in (1, 3, 9) for format in "xduo" for size in "bhwg"]
FORMATS += ["1cb", "9cb"]


def test_memory_is_shown_as_by_qemu(tmp_path):
    data = random.Random(5).randbytes(128) + bytes(range(128))
    (tmp_path / "data").write_bytes(data)
    loader = ["-device", f"loader,file={tmp_path / 'data'},addr={AT:#x},force-raw=on"]
    with steered(tmp_path, paused=True) as machine, Qemu(tmp_path, *loader) as theirs:
        ours = machine.client()  # which answers once memory is loaded
        machine.machine.memory.load(AT, data)
        # First: QEMU shows these in the format that x was given last.
        for line in ("print 1+2*3", "p/x 0-1", "print /d 0-1", "print /o 8", "info status", "bogus"):
            assert ours.human(line).split(" (")[0].strip() == theirs.human(line).split(" (")[0].strip(), line
        for format in FORMATS:
            for line in (f"xp /{format} {AT:#x}", f"xp/{format} {AT}+128", f"x /{format} {AT:#x}"):
                assert ours.human(line) == theirs.human(line), line
        ours.close()


def test_memory_is_shown_as_instructions(client):
    assert "b #0x" in client.human("xp /2i 0x40080000").splitlines()[0]
    assert client.human("x /1i $pc") == client.human("xp /1i $pc")


@pytest.mark.parametrize(
    "line", ["xp /zz 0", "xp /4xd 0", "xp /4xwb 0", "xp /99999999 0", "xp /1x", "xp /-1x 0"]
)
def test_a_format_that_is_none_is_told(client, line):
    assert (
        "use a count" in client.human(line)
        or "at most" in client.human(line)
        or "wants" in client.human(line)
    )


def test_where_there_is_no_memory_is_told(client):
    assert "no memory at 0xffffffff00000" in client.human("xp 0xffffffff00000")


def test_every_topic_shows_something_or_why_not(client):
    for name in human_commands():
        if name.startswith("info "):
            assert "inside emu" not in client.human(name)
    assert "pc" in client.human("info registers")
    assert "serial0" in client.human("info mtree")
    assert "pl011" in client.human("info qtree")
    assert "prio 0, ram" in client.human("info mtree")


def test_ports_are_read_and_written(tmp_path):
    halt = b"\xf4\xeb\xfd"
    with steered(tmp_path, board="microvm", arch="x86_64", kernel=halt, paused=True) as machine:
        client = machine.client()
        client.human("o /b 0x3ff 0x5a")  # the serial line's scratch register
        assert client.human("i /b 0x3ff") == "portb[0x03ff] = 0x5a\n"
        assert "0xffff" in client.human("i /h 0x999")
        assert "at most 4" in client.human("i /g 0")
        client.close()


def test_arm_has_no_ports(client):
    assert "no I/O ports" in client.human("i 0x60")


@pytest.mark.parametrize("arch", ["x86_64"])
def test_info_mem_is_what_the_cpu_translates(tmp_path, arch):
    """Tables with holes, rights and all sizes of pages; the CPU's own translation is the judge."""
    rng = random.Random(9)
    with steered(tmp_path, board="microvm", arch="x86_64", kernel=b"\xf4\xeb\xfd", paused=True) as machine:
        client = machine.client()  # which answers once the CPU was reset
        memory, vcpu = machine.machine.memory, machine.machine.cpus[0].vcpu
        tables = iter(range(0x10_0000, 0x20_0000, 0x1000))

        def table(level):
            at = next(tables)
            entries = [0] * 512
            for number in rng.sample(range(512), 4):
                if level == 1 or (level < 4 and rng.random() < 0.3):
                    flags = 0x80 if level > 1 else 0
                    entries[number] = flags | 1 | rng.choice((0, 2, 4, 6))
                elif level > 1:
                    entries[number] = table(level - 1) | 7
            memory.load(at, b"".join(entry.to_bytes(8, "little") for entry in entries))
            return at

        vcpu.set(cr3=table(4), cr4=0x20, efer=0x500, cr0=0x80000011)
        shown = [line.split() for line in client.human("info mem").splitlines()]
        assert len(shown) > 20
        for span, _, rights in shown:
            start, end = (int(word, 16) for word in span.split("-"))
            assert rights in ("-r-", "-rw", "ur-", "urw")
            assert vcpu.translate(start) is not None
            assert vcpu.translate(end - 1) is not None
        inside = [tuple(int(word, 16) for word in span.split("-")) for span, *_ in shown]
        for start, end in inside:
            for at in (start - 1, end):
                mapped = any(low <= at < high for low, high in inside)
                canonical = (at >> 47) in (0, 0x1FFFF)
                if canonical and not mapped:
                    assert vcpu.translate(at) is None, hex(at)
        client.close()


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
