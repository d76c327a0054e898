"""The network card (virtio 1.2, section 5.1) and the ends on the host that its cable leads to."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from accel.errors import DeviceError
from emu.net import NetError, Peer, address, open_net
from emu.net.sockets import Stream, pair
from emu.net.user import Forward, User
from emu.virtio.mmio import VirtioMmio
from emu.virtio.net import VirtioNet
from tests.emu.conftest import BASE, Bench
from tests.emu.virtio_driver import NEEDS_RESET, RAM, RAM_SIZE, WRITE, Driver

CSUM, MAC, HOST_TSO4, MRG_RXBUF, STATUS, CTRL_VQ = 1 << 0, 1 << 5, 1 << 11, 1 << 15, 1 << 16, 1 << 17
CTRL_RX, CTRL_MAC_ADDR = 1 << 18, 1 << 23
USUAL = MAC | MRG_RXBUF | STATUS | CTRL_VQ | CTRL_RX | CTRL_MAC_ADDR
BUFFER = 2048


class Card:
    """A driver of one card."""

    def __init__(
        self, driver: Driver, features: int = USUAL, *, buffers: int = 8, room: int = BUFFER
    ) -> None:
        self.driver = driver
        self.head = 12 if features & MRG_RXBUF or not driver.legacy else 10
        self.rx, self.tx, self.control = driver.start(features, queues=3)
        self.room = room
        self.at: dict[int, int] = {}
        self.out = driver.memory(0x20000)
        for _ in range(buffers):
            self.offer(driver.memory(room))
        self.rx.kick()

    def offer(self, buffer: int) -> None:
        self.at[self.rx.put([(buffer, self.room, WRITE)])] = buffer

    def send(self, frame: bytes, header: bytes = b"") -> None:
        self.driver.space.load(self.out, header.ljust(self.head, b"\0"))
        self.driver.space.load(self.out + 64, frame)
        self.tx.put([(self.out, self.head, 0), (self.out + 64, len(frame), 0)])
        self.tx.kick()
        self.tx.wait()

    def receive(self) -> bytes:
        """The next frame, whole, and its buffers offered again."""
        frame, left = b"", 1
        while left:
            head, length = self.rx.wait()
            buffer = self.at[head]
            data = self.driver.space.peek(buffer, length)
            if not frame:
                left = struct.unpack_from("<H", data, 10)[0] if self.head == 12 else 1
                data = data[self.head :]
            frame += data
            left -= 1
            self.offer(buffer)
        self.rx.kick()
        return frame


@pytest.fixture
def card(bench: Bench) -> Iterator[Callable[..., Card]]:
    """card(peer, ...) attaches a card at that end and gives its driver."""
    bench.space.add_ram("ram", RAM, RAM_SIZE)
    made: list[VirtioMmio] = []

    def make(peer: Peer, features: int = USUAL, *, legacy: bool = False, **options: int) -> Card:
        transport = VirtioMmio(VirtioNet(peer), force_legacy=legacy)
        transport.name = f"slot{len(made)}"
        base = BASE + 0x200 * len(made)
        bench.attach(transport, base=base)
        made.append(transport)
        driver = Driver(bench.space, base, bench.irq, legacy=legacy)
        driver.next = RAM + 0x10_0000 * (len(made) - 1)
        return Card(driver, features, **options)

    make.made = made  # type: ignore[attr-defined]
    yield make
    for transport in made:
        transport.close()


def frame(size: int = 60, kind: int = 0x88B5) -> bytes:
    """An Ethernet frame of a kind that is for experiments."""
    return bytes.fromhex("ffffffffffff525400123456") + struct.pack(">H", kind) + os.urandom(size - 14)


def test_address_and_link_are_in_the_configuration(card) -> None:
    end, other = pair()
    made = card(end)
    driver = made.driver
    assert bytes(driver.config(n, 1) for n in range(6)) == address("52:54:00:12:34:56")
    assert driver.config(6, 2) == 1
    card.made[0].device.link(False)
    assert driver.config(6, 2) == 0
    assert driver.read(0x60) & 2
    other.close()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("features", [USUAL, USUAL & ~MRG_RXBUF])
def test_frames_go_from_guest_to_guest_through_a_pair(card, features, legacy) -> None:
    ends = pair()
    first, second = card(ends[0], features, legacy=legacy), card(ends[1], features, legacy=legacy)
    for n in range(40):
        for a, b in ((first, second), (second, first)):
            sent = frame(60 + 37 * n)
            a.send(sent)
            assert b.receive() == sent


def test_a_frame_larger_than_a_buffer_is_spread(card) -> None:
    ends = pair()
    first, second = card(ends[0]), card(ends[1], room=512)
    for size in (499, 500, 501, 1012, 1013, 1514):
        sent = frame(size)
        first.send(sent)
        assert second.receive() == sent


def test_a_guest_that_takes_nothing_holds_frames_back(card) -> None:
    ends = pair()
    first, second = card(ends[0]), card(ends[1], buffers=0)
    sent = [frame(100) for _ in range(8)]
    for one in sent:
        first.send(one)
    for _ in range(8):
        second.offer(second.driver.memory(BUFFER))
    second.rx.kick()
    assert [second.receive() for _ in sent] == sent


@pytest.mark.parametrize("length", [64, 65, 101, 1500])
def test_a_checksum_left_to_the_card_is_right(card, length) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    made = card(Stream(ours), USUAL | CSUM)
    body = os.urandom(length)
    data = frame(34, 0x0800)[:14] + struct.pack(">BBH", 0x45, 0, 20 + 8 + length) + bytes(16)
    data += struct.pack(">HHHH", 1, 2, 8 + length, 0x1234) + body + b"\xff" * 3  # and padding
    made.send(data, struct.pack("<BBHHHH", 1, 0, 0, 0, 34, 6))
    got = theirs.recv(70000)
    assert struct.unpack(">I", got[:4])[0] == len(data)
    got = got[4:]
    assert got[:40] + got[42:] == data[:40] + data[42:]
    # RFC 1071: the sum of all words, the checksum among them, is what the pseudo header's lacks to -0.
    padded = got[34:-3] + b"\0" * (length % 2)
    words = struct.unpack(f">{len(padded) // 2}H", padded)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF - 0x1234
    theirs.close()


def test_a_stream_speaks_as_qemus_sockets_do(card) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    made = card(Stream(ours))
    sent = frame(77)
    made.send(sent)
    assert theirs.recv(1000) == struct.pack(">I", 77) + sent
    frames = [frame(60 + n) for n in range(30)]
    data = b"".join(struct.pack(">I", len(one)) + one for one in frames)
    for at in range(0, len(data), 97):
        theirs.sendall(data[at : at + 97])
    assert [made.receive() for _ in frames] == frames
    theirs.sendall(b"\xff" * 8)  # a frame of 4 GiB: the other side is no friend
    assert theirs.recv(1) == b""
    made.send(sent)


def test_a_listener_takes_one_connection_after_the_other(card) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    where = listener.getsockname()
    made = card(Stream(None, listener))
    for _ in range(3):
        with socket.create_connection(where) as theirs:
            sent = frame(64)
            theirs.sendall(struct.pack(">I", 64) + sent)
            assert made.receive() == sent
            made.send(sent)
            assert theirs.recv(1000) == struct.pack(">I", 64) + sent


def test_the_control_queue_takes_filters_and_addresses(card) -> None:
    end, other = pair()
    made = card(end)
    space, at = made.driver.space, made.driver.memory(4096)

    def command(kind: int, what: int, data: bytes) -> int:
        space.load(at, bytes((kind, what)) + data + b"\xee")
        descs = [(at, 2, 0), (at + 2, len(data), 0), (at + 2 + len(data), 1, WRITE)]
        made.control.put(descs)
        made.control.kick()
        assert made.control.wait()[1] == 1
        return space.peek(at + 2 + len(data), 1)[0]

    assert command(0, 0, b"\1") == 0
    assert command(0, 99, b"\1") == 1
    assert command(1, 1, address("52:54:00:aa:bb:cc")) == 0
    assert made.driver.config(3, 2) == 0xBBAA
    assert command(1, 1, b"\1\2\3") == 1
    assert command(77, 0, b"\0") == 1
    other.close()


@pytest.mark.parametrize("queue", ["tx", "control"])
def test_a_chain_that_is_no_request_breaks_the_card(card, queue) -> None:
    end, other = pair()
    made = card(end)
    broken = getattr(made, queue)
    broken.put([(RAM, 1, 0)])
    broken.kick()
    made.driver.until(lambda: made.driver.read(0x70) & NEEDS_RESET)
    other.close()


def dhcp(kind: int, mac: bytes, options: bytes = b"") -> bytes:
    """A DHCP message of a client that has no address (RFC 2131)."""
    body = struct.pack(">BBBBIHH16x6s10x192x4s", 1, 1, 6, 0, 0x1234, 0, 0x8000, mac, b"\x63\x82\x53\x63")
    body += bytes((53, 1, kind)) + options + b"\xff"
    body = body.ljust(300, b"\0")
    udp = struct.pack(">HHHH", 68, 67, 8 + len(body), 0) + body
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    words = struct.unpack(">10H", ip)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack(">H", ~total & 0xFFFF) + ip[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + ip + udp


def user(*forwards: str, **options) -> User:
    try:
        return User([Forward.parse(words) for words in forwards], **options)
    except NetError as error:
        if "libslirp0" in str(error):
            pytest.skip(str(error))
        raise


def test_user_networking_gives_the_guest_an_address(card) -> None:
    made = card(user(network="192.168.7.0/24"))
    made.send(dhcp(1, address("52:54:00:12:34:56")))
    while True:
        got = made.receive()
        if got[12:14] == b"\x08\x00" and got[23] == 17 and got[36:38] == b"\x00\x44":
            break
    assert got[58:62] == bytes((192, 168, 7, 15))
    assert got[26:30] == bytes((192, 168, 7, 2))


def ip(source: bytes, target: bytes, number: int, flags: int, data: bytes) -> bytes:
    """A frame with an IPv4 packet of UDP's, or a fragment of one."""
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(data), number, flags, 64, 17, 0, source, target)
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]
    return bytes.fromhex("52550a000202525400123456") + b"\x08\x00" + header + data


def test_fragments_of_a_datagram_come_in_any_order(card) -> None:
    made = card(user())
    rng = random.Random(5)
    guest, host = bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(30)
        port = listener.getsockname()[1]
        for number in range(30):
            body = rng.randbytes(rng.choice((17, 2000, 9001, 40000)))
            data = struct.pack(">HHHH", 1234, port, 8 + len(body), 0) + body
            pieces, start = [], 0
            while start < len(data):
                end = min(start + 8 * rng.randrange(1, 185), len(data))
                more = 0x2000 if end < len(data) else 0
                pieces.append(ip(guest, host, number, more | start // 8, data[start:end]))
                start = end
            rng.shuffle(pieces)
            for piece in pieces:
                made.send(piece)
            assert listener.recv(65536) == body


def test_fragments_without_the_rest_are_forgotten(card) -> None:
    made = card(user())
    guest, host = bytes((10, 0, 2, 15)), bytes((10, 0, 2, 2))
    # The last one alone, ends that contradict each other, what lies beyond the longest packet.
    for number in range(50):
        made.send(ip(guest, host, number, 100, bytes(64)))
        made.send(ip(guest, host, number, 0x2000 | 200, bytes(64)))
        made.send(ip(guest, host, number, 0x1FFF, bytes(900)))
    made.send(dhcp(1, address("52:54:00:12:34:56")))
    assert made.receive()


WRONG = [
    ("ethernet", "use user, tap, socket or none"),
    ("user,hostfwd", "name=value"),
    ("user,hostfwd=tcp:1", "tcp:127.0.0.1:2222-:22"),
    ("user,hostfwd=tcp:127.0.0.1:0-:22", "tcp:127.0.0.1:2222-:22"),
    ("user,hostfwd=sctp:127.0.0.1:1-:22", "tcp:127.0.0.1:2222-:22"),
    ("user,hostfwd=tcp:nowhere:22-:22", "tcp:127.0.0.1:2222-:22"),
    ("user,restrict=maybe", "on or off"),
    ("user,net=10.0.2.7/24", "net=10.0.2.0/24"),
    ("user,net=10.0.2.0/30", "/27"),
    ("user,dns=1.2.3.4", "not in net"),
    ("user,smb=/home", "smb"),
    ("user,mac=01:00:00:00:00:00", "group"),
    ("user,mac=banana", "52:54:00:12:34:56"),
    ("user,restrict=on,restrict=off", "once"),
    ("tap", "ifname=NAME"),
    ("tap,ifname=aaaaaaaaaaaaaaaaaaaa", "1 to 15"),
    ("tap,ifname=t0,script=/etc/ifup", "script=no"),
    ("socket", "listen=:PORT"),
    ("socket,listen=:1,connect=:2", "one of"),
    ("socket,listen=1234", "ADDRESS:PORT"),
    ("socket,connect=127.0.0.1:1", "start the other side first"),
    ("socket,unix=/nowhere/at/all", "choose another"),
    ("socket,fd=999", "hand a socket on"),
    ("socket,fd=x", "number"),
]


@pytest.mark.parametrize(("words", "remedy"), WRONG)
def test_words_that_name_no_network_are_told_in_one_line(words, remedy) -> None:
    with pytest.raises(DeviceError) as caught:
        open_net(words)
    text = str(caught.value)
    assert remedy in text
    assert "\n" not in text


def test_a_port_that_is_taken_is_told() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(NetError, match="choose another port"),
    ):
        user(f"tcp:127.0.0.1:{taken.getsockname()[1]}-:22")


def test_cards_get_addresses_by_their_number() -> None:
    assert open_net("none") is None
    ends = [open_net(words, number) for number, words in enumerate(("socket,listen=:0", "socket,listen=:0"))]
    assert [end[1][5] for end in ends if end] == [0x56, 0x57]
    for end in ends:
        assert end
        end[0].close()


def test_a_snapshot_may_say_anything_of_connections() -> None:
    """What is not known here is reset at the guest, whoever is named; what makes no sense is passed over."""
    draw = random.Random(11)
    card = VirtioNet(user())
    for size in (0, 1, 59, 60, 61, 60 * 2000):
        card.load_own(bytes(draw.choice((0, 4, 6, 255, draw.randrange(256))) for _ in range(size)))
        assert card.save_own() == b""
    card.load_own(None)
    card.close()
