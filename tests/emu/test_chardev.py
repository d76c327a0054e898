"""Host ends of serial lines: files, pseudo-terminals, sockets, pipes, and what happens when nobody reads."""

import os
import socket
import threading
import time

import pytest

from emu.backends.chardev import LIMIT, Chardev, ChardevError, DescriptorChardev, MemoryChardev, open_chardev
from emu.console import Console
from emu.loop import Loop


class Front:
    """A device's end that takes `size` bytes."""

    def __init__(self, size=16):
        self.lock = threading.RLock()
        self.size = size
        self.got = bytearray()
        self.drains = 0

    def room(self):
        return self.size

    def receive(self, data):
        assert len(data) <= self.size
        self.size -= len(data)
        self.got += data

    def drained(self):
        self.drains += 1


@pytest.fixture
def loop():
    with Loop() as made:
        yield made


def turn(loop, until, seconds=5.0):
    """Runs the loop until something is true."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "nothing happened"
        loop.step(0.05)


def opened(words, loop, front=None):
    chardev = open_chardev(words)
    chardev.connect(front or Front())
    chardev.open(loop)
    return chardev


def test_a_file_holds_what_was_written(loop, tmp_path):
    path = tmp_path / "out"
    chardev = opened(f"file:{path}", loop)
    chardev.write(b"first\nand no newline")
    chardev.close()
    assert path.read_bytes() == b"first\nand no newline"


def test_bytes_without_a_newline_leave_from_the_loop(loop, tmp_path):
    path = tmp_path / "out"
    chardev = opened(f"file:{path}", loop)
    chardev.write(b"=> ")
    turn(loop, lambda: path.read_bytes() == b"=> ")
    chardev.close()


def test_null_takes_everything(loop):
    chardev = opened("null", loop)
    chardev.write(bytes(10 * LIMIT))
    assert not chardev.full
    chardev.close()


def test_a_pty_works_in_both_directions(loop):
    front = Front()
    chardev = opened("pty", loop, front)
    fd = os.open(chardev.path, os.O_RDWR | os.O_NOCTTY)
    chardev.write(b"hello\n")
    assert os.read(fd, 100) == b"hello\n"
    os.write(fd, b"typed\r")
    turn(loop, lambda: front.got == b"typed\r")
    os.close(fd)
    chardev.close()


def test_a_pty_that_nobody_reads_keeps_the_latest_and_never_holds_the_guest(loop):
    chardev = opened("pty", loop)
    for _ in range(40):
        chardev.write(bytes(8192))
        loop.step(0)
    assert not chardev.full
    chardev.close()


def test_a_unix_server_takes_one_connection_after_another(loop, tmp_path):
    path = str(tmp_path / "serial")
    front = Front(100)
    chardev = opened(f"unix:{path},server", loop, front)
    chardev.write(b"nobody hears this\n")
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            turn(loop, lambda: chardev.read_fd >= 0)
            chardev.write(b"hello\n")
            assert peer.recv(100) == b"hello\n"
            peer.send(b"x")
            turn(loop, lambda: front.got.endswith(b"x"))
        turn(loop, lambda: chardev.read_fd < 0)
        front.got.clear()
    chardev.close()
    assert not os.path.exists(path)  # noqa: PTH110


def test_a_connection_that_ends_while_nothing_is_read_makes_room_for_the_next(loop, tmp_path):
    path = str(tmp_path / "serial")
    front = Front(0)
    told = []
    chardev = opened(f"unix:{path},server", loop, front)
    chardev.changed = lambda: told.append(chardev.connected)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        turn(loop, lambda: told == [True])
    turn(loop, lambda: told == [True, False])
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        turn(loop, lambda: told == [True, False, True])
        peer.send(b"left unread")
    # Nobody else wants the line: what came over it is kept.
    for _ in range(3):
        loop.step(0)
    front.size = 4
    chardev.accept()
    turn(loop, lambda: front.got == b"left")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.send(b"new")
        turn(loop, lambda: told[3:] == [False, True])
        front.size = 100
        chardev.accept()
        turn(loop, lambda: front.got == b"leftnew")
    chardev.close()


def test_a_tcp_server_tells_its_port_and_serves(loop):
    front = Front()
    chardev = opened("tcp:127.0.0.1:0,server", loop, front)
    host, port = chardev.path.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as peer:
        turn(loop, lambda: chardev.read_fd >= 0)
        peer.send(b"in")
        turn(loop, lambda: front.got == b"in")
        chardev.write(b"out\n")
        assert peer.recv(10) == b"out\n"
    chardev.close()


def test_a_socket_that_listens_already_is_connected_to(loop, tmp_path):
    path = str(tmp_path / "peer")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        chardev = opened(f"unix:{path}", loop)
        peer, _ = listener.accept()
        chardev.write(b"hello\n")
        assert peer.recv(10) == b"hello\n"
        peer.close()
        turn(loop, lambda: chardev.read_fd < 0)
        chardev.write(b"gone\n")
        chardev.close()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(loop, tmp_path):
    path = str(tmp_path / "serial")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    chardev = opened(f"unix:{path},server", loop)
    with pytest.raises(ChardevError, match=r"cannot listen at unix:.*Address already in use"):
        open_chardev(f"unix:{path},server")
    chardev.close()


def test_input_is_fetched_only_as_far_as_there_is_room(loop):
    ours, theirs = os.pipe()
    front = Front(3)
    chardev = DescriptorChardev(ours, -1)
    chardev.connect(front)
    chardev.open(loop)
    os.write(theirs, b"abcdef")
    turn(loop, lambda: front.got == b"abc")
    loop.step(0)
    loop.step(0)
    assert front.got == b"abc"
    front.size = 2
    chardev.accept()
    turn(loop, lambda: front.got == b"abcde")
    os.close(theirs)
    front.size = 5
    chardev.accept()
    turn(loop, lambda: front.got == b"abcdef")
    chardev.close()


def test_a_pipe_s_escapes_are_obeyed_in_turn(loop, monkeypatch):
    ours, theirs = os.pipe()
    with open(ours) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        front = Front(3)
        console = Console()
        console.connect(front)
        console.ended = lambda: ended.append(bytes(front.got))
        console.open(loop)
        ended = []
        os.write(theirs, b"ab\x01\x01c\x01x")
        turn(loop, lambda: front.got == b"ab\x01")
        loop.step(0)
        loop.step(0)
        assert not ended
        front.size = 2
        console.accept()
        turn(loop, lambda: ended)
        assert ended == [b"ab\x01c"]
        os.close(theirs)
        console.close()


def test_a_host_that_takes_nothing_holds_the_guest_until_it_reads(loop):
    ours, theirs = socket.socketpair()
    front = Front()
    fd = ours.detach()
    chardev = DescriptorChardev(fd, fd)
    chardev.connect(front)
    chardev.open(loop)
    sent = 0
    while not chardev.full:
        chardev.write(bytes(4096))
        sent += 4096
        loop.step(0)
        assert sent < 1 << 24
    got = 0
    theirs.setblocking(False)
    while got < sent:
        if not front.drains:
            loop.step(0)
        try:
            got += len(theirs.recv(65536))
        except BlockingIOError:
            loop.step(0.05)
    assert (front.drains, chardev.full) == (1, False)
    theirs.close()
    chardev.close()


def test_a_reader_that_is_gone_does_not_hold_the_guest(loop):
    ours, theirs = os.pipe()
    chardev = DescriptorChardev(-1, theirs)
    chardev.connect(Front())
    chardev.open(loop)
    os.close(ours)
    chardev.write(b"into nothing\n")
    assert not chardev.full
    chardev.close()


def test_memory_feeds_what_was_typed_before_the_machine_ran(loop):
    chardev = MemoryChardev()
    front = Front(2)
    chardev.connect(front)
    chardev.type("abc")
    chardev.open(loop)
    turn(loop, lambda: front.got == b"ab")
    front.size = 2
    chardev.accept()
    turn(loop, lambda: front.got == b"abc")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("", "no serial line is called ''"),
        ("ttyS0", "no serial line is called 'ttyS0'; use stdio, null, pty"),
        ("file:", "no serial line is called"),
        ("file:/", "Is a directory"),
        ("file:/nonexistent/x", "No such file or directory"),
        ("unix:/nonexistent", "cannot connect to unix:/nonexistent: No such file.*add ,server"),
        ("unix:/nonexistent/x,server", "cannot listen at"),
        ("unix:/tmp/x,wait", "the only word after the comma is server"),
        ("unix:" + "x" * 200, "cannot connect to unix:x+: AF_UNIX path too long"),
        ("tcp:127.0.0.1", "is no address"),
        ("tcp:127.0.0.1:99999", "is no address"),
        ("tcp:0.0.0.0:1234,server", "only this host may use a serial line"),
    ],
)
def test_a_host_end_that_cannot_be_had_is_one_line(words, cause):
    with pytest.raises(ChardevError, match=cause) as caught:
        open_chardev(words)
    assert "\n" not in str(caught.value)


def test_the_base_class_is_null():
    assert type(open_chardev("null")) is Chardev


def test_sockets_are_their_owners_alone_and_take_no_living_ones_place(tmp_path):
    """Whatever listens: lines, monitors, debuggers, machines that come, cards."""
    import stat

    from emu.backends.streams import bind_privately

    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        bind_privately(first, str(path))
        first.listen(1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OSError, match="in use"):
            bind_privately(second, str(path))
    with socket.socket(socket.AF_UNIX) as third:  # the first is gone, its name is not
        bind_privately(third, str(path))
