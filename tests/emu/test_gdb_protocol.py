"""GDB's packets: what is sent is what arrives, and nothing that arrives does harm."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from emu.gdb.protocol import INTERRUPT, PACKET_SIZE, Packets, checksum, escape, unescape
from emu.gdb.stub import Stub
from emu.gdb.target import Kind, Refused, Stop
from isa.arch import find


def packet(payload: bytes) -> bytes:
    return b"$%b#%02x" % (payload, checksum(payload))


def expanded(payload: bytes) -> bytes:
    """A payload without run-length counts ("Debugging with GDB", E.1: n - 29 more of the byte before)."""
    out = bytearray()
    at = 0
    while at < len(payload):
        if payload[at : at + 1] == b"*":
            out += out[-1:] * (payload[at + 1] - 29)
            at += 1
        else:
            out.append(payload[at])
        at += 1
    return bytes(out)


@given(st.binary(max_size=200), st.integers(1, 7))
def test_a_packet_arrives_however_its_bytes_are_cut(data, size):
    packets = Packets()
    sent = packet(escape(data)) + packet(b"g")
    events = []
    for at in range(0, len(sent), size):
        events += packets.receive(sent[at : at + size])
    assert [unescape(event) for event in events] == [data, b"g"]
    assert packets.output() == b"++"


@given(st.binary(max_size=400))
def test_escaped_data_holds_none_of_the_bytes_that_mean_something(data):
    assert not set(escape(data)) & set(b"#$*")
    assert unescape(escape(data)) == data


@given(st.lists(st.sampled_from([b"0" * 98, b"0" * 150, b"0", b"f", b"00ff"]), max_size=12))
def test_runs_of_zeros_are_shortened_and_come_out_the_same(parts):
    packets = Packets()
    text = b"".join(parts)
    packets.send(text)
    sent = packets.output()
    body, check = sent[1:-3], sent[-2:]
    assert expanded(body) == text
    assert int(check, 16) == checksum(body)
    assert len(body) <= len(text)


def test_a_wrong_sum_is_refused_and_asked_for_again():
    packets = Packets()
    assert packets.receive(b"$g#00") == []
    assert packets.output() == b"-"
    packets.send(b"OK")
    assert packets.output() == b"$OK#9a"
    packets.receive(b"-")
    assert packets.output() == b"$OK#9a"
    packets.no_acks = True
    assert packets.receive(b"$g#00") == [b"g"]
    assert packets.output() == b""


def test_an_interrupt_counts_between_packets_and_not_inside():
    packets = Packets()
    assert packets.receive(b"\x03" + packet(b"a\x03b") + b"\x03") == [INTERRUPT, b"a\x03b", INTERRUPT]


def test_a_packet_that_is_too_long_is_dropped_and_no_more_of_it_is_kept():
    packets = Packets()
    for _ in range(40):
        assert packets.receive(b"$" + b"a" * PACKET_SIZE if _ == 0 else b"a" * PACKET_SIZE) == []
        assert len(packets._in) <= 2 * PACKET_SIZE
    assert packets.receive(b"#00" + packet(b"g")) == [b"g"]
    assert packets.output() == b"-+"


class Nothing:
    """A target of which everything can be asked."""

    arch = find("aarch64")
    registers = arch.registers
    osabi = "GNU/Linux"
    attached = False
    pid = 7
    kinds = frozenset(Kind)

    def __init__(self) -> None:
        self.stopped = lambda stop: None
        self.memory = bytearray(4096)
        self.values: dict[str, int] = {}
        self.settings: dict[str, str] = {}
        self.resumed = 0

    def threads(self):
        return [1, 2]

    def thread_text(self, thread):
        return f"thread <{thread}>"

    def read_registers(self, thread, names):
        return [self.values.get(name, 0) if name != "fpsr" else None for name in names]

    def write_registers(self, thread, values):
        self.values.update(values)

    def read(self, address, size):
        if not 0 <= address < 4096:
            raise Refused("nothing there")
        return bytes(self.memory[address : address + size])

    def write(self, address, data):
        if not 0 <= address <= 4096 - len(data):
            raise Refused("nothing there")
        self.memory[address : address + len(data)] = data

    def insert(self, kind, address, size):
        if kind is Kind.HARDWARE:
            raise Refused("no more of them")

    def remove(self, kind, address, size):
        pass

    def status(self):
        return Stop(1)

    def resume(self, actions):
        assert actions
        self.resumed += 1
        if self.resumed % 2:
            self.stopped(Stop(1, reason="swbreak"))

    def interrupt(self):
        self.stopped(Stop(2, 2))

    def kill(self):
        pass

    detach = reset = kill

    def monitor(self, words):
        return words

    def setting(self, name, value):
        return self.settings.get(name)

    def object(self, name, annex, thread):
        return b"<x>" * 100 if name == "auxv" else None

    def open(self, path):
        raise FileNotFoundError(2, path)


def ask(stub: Stub, payload: bytes) -> bytes:
    """The answer to one packet."""
    stub.receive(packet(payload))
    out = stub.output()
    assert out.startswith(b"+$"), out
    return expanded(out[2:-3])


def test_what_a_client_asks_at_its_start_is_answered_as_the_manual_says():
    stub = Stub(Nothing())
    assert b"qXfer:features:read+" in ask(stub, b"qSupported:multiprocess+;swbreak+").split(b";")
    assert ask(stub, b"qXfer:features:read:target.xml:0,20").startswith(b'm<?xml version="1.0"?>')
    assert ask(stub, b"qXfer:features:read:other.xml:0,20") == b"E00"
    assert ask(stub, b"?").startswith(b"T05")
    assert b"thread:1;" in ask(stub, b"?")
    assert ask(stub, b"qfThreadInfo") == b"m1,2"
    assert ask(stub, b"qsThreadInfo") == b"l"
    assert ask(stub, b"Hg2") == b"OK"
    assert ask(stub, b"Hg9") == b"E03"
    assert ask(stub, b"qC") == b"QC2"
    assert bytes.fromhex(ask(stub, b"qThreadExtraInfo,2").decode()) == b"thread <2>"
    assert ask(stub, b"vCont?") == b"vCont;c;C;s;S;r;t"
    assert ask(stub, b"unheard-of") == b""


def test_registers_and_memory_are_read_and_written():
    stub = Stub(Nothing())
    assert ask(stub, b"P20=efbeadde00000000") == b"OK"
    assert ask(stub, b"p20") == b"efbeadde00000000"
    everything = ask(stub, b"g")
    assert everything[32 * 16 : 33 * 16] == b"efbeadde00000000"
    assert everything[-16:] == b"x" * 8 + b"0" * 8  # fpsr is not to be had
    assert ask(stub, b"M10,2:abcd") == b"OK"
    assert ask(stub, b"m10,4") == b"abcd0000"
    assert ask(stub, b"X20,3:" + escape(b"#}*")) == b"OK"
    assert ask(stub, b"m20,3") == b"237d2a"
    assert unescape(ask(stub, b"x20,3")) == b"b#}*"
    assert ask(stub, b"mffff,4") == b"E14"
    assert ask(stub, b"m10") == b"E16"
    assert ask(stub, b"Z0,10,4") == b"OK"
    assert ask(stub, b"Z1,10,4") == b"E01"
    ask(stub, b"qSupported:swbreak+")
    assert ask(stub, b"Z1,10,4") == b"E.emu.no more of them"
    assert ask(stub, b"Z9,10,4") == b""


WORDS = [
    b"qSupported:", b"qXfer:", b"features:read:target.xml:", b"threads:read::0,", b"H", b"g", b"G", b"p",
    b"P", b"m", b"M", b"x", b"X", b"Z0,", b"z1,", b"vCont;", b"vCont?", b"c", b"s:1", b"C05", b"r0,8:2",
    b"t", b"?", b"D", b"k", b"R00", b"qRcmd,", b"qqemu.", b"Qqemu.PhyMemMode:1", b"vFile:open:2f,0,0",
    b"vFile:pread:3,4,5", b"vFile:", b"QPassSignals:e;f", b"qSymbol::", b"0", b"1", b"ffffffffffffffff",
    b"-1", b",", b":", b";", b"=", b"\x03", b"#", b"$", b"}", b"*", b"+", b"-", b"vKill;7", b"T1",
    b"qThreadExtraInfo,", b"QStartNoAckMode", b"vCtrlC", b"qAttached:1",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=6)), max_size=12), st.booleans())
def test_no_packet_raises_anything_and_the_stub_still_answers(words, framed):
    stub = Stub(Nothing())
    data = b"".join(words)
    stub.receive(packet(data) if framed else data)
    stub.output()
    stub.receive(b"\x03#00" + packet(b"QStartNoAckMode") + packet(b"qfThreadInfo"))
    assert packet(b"m1,2") in stub.output()
    stub.close()


def test_random_bytes_raise_nothing_and_leave_nothing():
    stub = Stub(Nothing())
    source = random.Random(20261129)
    for _ in range(3000):
        stub.receive(
            source.randbytes(source.randrange(1, 60)) + source.choice([b"", b"$", b"#a0", b"$m0,10#2a"])
        )
        stub.output()
    assert len(stub.packets._in) <= 2 * PACKET_SIZE
    assert len(stub._waiting) <= 64
