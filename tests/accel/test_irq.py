"""Interrupt lines: a level, told when it changes."""

import threading

import pytest

from accel.irq import IrqLine


def test_the_controller_hears_of_changes_only():
    line, heard = IrqLine(), []
    line.connect(heard.append)
    line.set(1)
    line.set(True)
    line.set(7)
    line.set(0)
    line.set(0)
    assert heard == [1, 0]
    assert line.level == 0


def test_a_pulse_is_an_edge_up_and_down():
    line, heard = IrqLine(), []
    line.connect(heard.append)
    line.pulse()
    assert heard == [1, 0]


def test_restore_sets_the_level_without_an_edge():
    line, heard = IrqLine(), []
    line.connect(heard.append)
    line.restore(1)
    assert line.level == 1
    assert heard == []
    line.set(1)
    assert heard == []
    line.set(0)
    assert heard == [0]


def test_a_line_that_ends_nowhere_keeps_its_level():
    line, heard = IrqLine(), []
    line.set(1)
    line.connect(heard.append)
    assert line.level == 1
    assert heard == []


def test_a_line_can_end_elsewhere_later():
    line, first, second = IrqLine(), [], []
    line.connect(first.append)
    line.set(1)
    line.connect(second.append)
    line.set(0)
    assert (first, second) == ([1], [0])


def test_a_controller_may_answer_with_the_same_line():
    line, heard = IrqLine(), []

    def acknowledge(level: int) -> None:
        heard.append(level)
        if level:
            line.set(0)

    line.connect(acknowledge)
    line.set(1)
    assert heard == [1, 0]
    assert line.level == 0


def test_what_a_controller_raises_comes_out_of_set(capfd):
    line = IrqLine()

    def fail(level: int) -> None:
        raise LookupError(level)

    line.connect(fail)
    with pytest.raises(LookupError):
        line.set(1)
    with pytest.raises(LookupError):
        line.set(0)
    line.set(0)
    assert capfd.readouterr().err == ""


def test_lines_set_from_many_threads_end_in_alternating_edges():
    line, heard = IrqLine(), []
    line.connect(heard.append)

    def hammer() -> None:
        for _ in range(300):
            line.pulse()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert line.level == 0
    assert heard == [1, 0] * (len(heard) // 2)
