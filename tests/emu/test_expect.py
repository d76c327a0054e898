"""machine.console: expecting what the guest says, and typing."""

from __future__ import annotations

import os
import re
import signal
import threading

import pytest

from accel.errors import DeviceError
from emu.backends.chardev import MemoryChardev
from emu.expect import KEPT, Heard, NotSeen
from emu.machine import Machine
from emu.samples.dialogue import kernel
from emu.samples.greeting import BOARDS


@pytest.fixture
def machine():
    with Machine("virt", arch="aarch64", accel="tcg", kernel=kernel()) as made:
        yield made


def test_a_dialogue(machine):
    console = machine.console
    assert console.expect("name? ").group() == "name? "
    assert console.before == "your "
    assert machine.state == "paused"
    console.send("A")
    console.sendline("da")
    assert console.expect(re.compile(r"hello, (\w+)\n")).group(1) == "Ada"
    assert console.before == "Ada\n"
    console.expect("name?")
    console.sendline()
    assert machine.run(timeout=60).reason == "guest-shutdown"
    assert console.text.startswith("your name? Ada\nhello, Ada\nyour name? ")


def test_what_was_matched_is_not_looked_at_again(machine):
    machine.console.expect("name")
    with pytest.raises(NotSeen):
        machine.console.expect("name", timeout=0.2)
    machine.console.sendline("x")
    machine.console.expect("name")


def test_what_does_not_come_is_an_error_with_the_last_lines(machine):
    for number in range(20):
        machine.console.expect("name? ")
        machine.console.sendline(f"person {number}")
    machine.console.expect("hello, person 19")
    with pytest.raises(NotSeen) as caught:
        machine.console.expect(re.compile("good(bye)?"), timeout=0.2)
    text = str(caught.value)
    assert text.startswith("0.2 s have passed without 'good(bye)?' on the console; its last lines:\n")
    assert "hello, person 19\nyour name?" in text
    assert "person 1\n" not in text
    assert caught.value.reason == "timeout"


def test_a_guest_that_ends_first_is_an_error_too():
    with Machine(BOARDS["aarch64"](), accel="tcg") as machine:
        with pytest.raises(NotSeen, match=r"the guest has ended \(guest-shutdown\) without 'farewell'"):
            machine.console.expect("farewell")
        with pytest.raises(NotSeen, match="the machine has ended"):
            machine.console.expect("farewell")
        machine.console.expect("Greetings from aarch64")


def test_a_copy_has_a_console_of_its_own(machine):
    machine.console.expect("name? ")
    with machine.fork() as copy:
        copy.console.sendline("copy")
        copy.console.expect("hello, copy")
    machine.console.sendline("first")
    machine.console.expect("hello, first")
    assert "copy" not in machine.console.text


def test_ctrl_c_while_something_is_expected_leaves_a_machine_that_goes_on(machine):
    machine.console.expect("name? ")
    main = threading.main_thread().ident
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        machine.console.expect("never", timeout=60)
    timer.join()
    assert machine.state == "paused"
    machine.console.sendline("again")
    machine.console.expect("hello, again")


def test_a_line_that_ends_elsewhere_is_no_console():
    with (
        Machine("virt", arch="aarch64", accel="tcg", kernel=kernel(), serial=MemoryChardev()) as machine,
        pytest.raises(DeviceError, match="leave serial= out"),
    ):
        machine.console.expect("x")
    with Machine("virt", arch="aarch64", accel="tcg", kernel=kernel(), serial=[Heard()]) as machine:
        machine.console.expect("name? ")


def test_of_a_guest_that_says_much_the_end_is_kept():
    line = Heard()
    said = bytearray()
    for number in range(30_000):
        line.write(b"%d %s\r\n" % (number, b"\xc3\xa9" * 90))
        said += b"%d %s\n" % (number, b"\xc3\xa9" * 90)
    begin, text = line.heard()
    assert said.decode().endswith(text)
    assert KEPT <= len(text) <= 2 * KEPT
    assert begin + len(text) == len(said.decode())


def test_bytes_that_are_no_text_and_characters_that_come_in_pieces():
    line = Heard()
    for byte in "a\u20acb".encode() + b"\xff\n" + os.urandom(1000):
        line.write(bytes([byte]))
        line.heard()
    assert line.text.startswith("a\u20acb\ufffd\n")
