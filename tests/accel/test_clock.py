"""Guest time: it stands while the machine does, and timers fire in order, once."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from accel.clock import Clock


def test_time_stands_before_start_and_after_stop():
    clock = Clock()
    assert clock.now() == clock.now() == 0
    clock.start()
    while clock.now() == 0:
        pass
    clock.stop()
    held = clock.now()
    assert held > 0
    assert clock.now() == held
    clock.stop()
    assert clock.now() == held


def test_time_goes_on_where_it_stopped():
    clock = Clock()
    clock.restore(10**15)
    assert clock.now() == 10**15
    clock.start()
    clock.start()
    assert clock.now() >= 10**15
    clock.stop()
    clock.restore(5)
    assert clock.now() == 5


def test_restore_while_running_keeps_running():
    clock = Clock()
    clock.start()
    clock.restore(10**18)
    first = clock.now()
    assert first >= 10**18
    while clock.now() == first:
        pass


def test_a_timer_fires_once_when_its_time_has_come():
    clock, fired = Clock(), []
    timer = clock.timer(lambda: fired.append(clock.now()))
    timer.arm(100)
    assert clock.next_deadline() == 100
    assert clock.due() == 0
    clock.restore(100)
    assert clock.due() == 1
    assert clock.due() == 0
    assert fired == [100]
    assert timer.deadline is None
    assert clock.next_deadline() is None


def test_arming_again_replaces_the_deadline_and_cancel_removes_it():
    clock, fired = Clock(), []
    timer = clock.timer(lambda: fired.append(1))
    timer.arm(10)
    timer.arm(50)
    clock.restore(20)
    assert clock.next_deadline() == 50
    assert clock.due() == 0
    timer.arm(10)
    assert clock.due() == 1
    timer.arm(60)
    timer.cancel()
    assert clock.next_deadline() is None
    clock.restore(100)
    assert clock.due() == 0
    assert fired == [1]


def test_a_callback_that_arms_its_timer_in_the_past_does_not_hold_the_machine():
    clock, fired = Clock(), []

    def again() -> None:
        fired.append(1)
        timer.arm(0)

    timer = clock.timer(again)
    timer.arm(0)
    assert clock.due() == 1
    assert clock.next_deadline() == 0
    assert clock.due() == 1
    assert len(fired) == 2


def test_a_guest_that_sets_its_timer_for_ever_does_not_fill_memory():
    clock = Clock()
    timers = [clock.timer(lambda: None) for _ in range(3)]
    for turn in range(20_000):
        timers[turn % 3].arm(10**9 + turn)
    assert len(clock._heap) < 200
    assert clock.next_deadline() == 10**9 + 19_997
    clock.restore(10**10)
    assert clock.due() == 3


def test_changed_is_called_when_a_deadline_comes():
    clock, told = Clock(), []
    clock.changed = lambda: told.append(clock.next_deadline())
    clock.timer(lambda: None).arm(7)
    assert told == [7]


def test_a_callback_that_raises_leaves_the_other_timers():
    clock, fired = Clock(), []

    def fail() -> None:
        raise ArithmeticError

    clock.timer(fail).arm(1)
    clock.timer(lambda: fired.append(2)).arm(2)
    clock.restore(5)
    try:
        clock.due()
    except ArithmeticError:
        fired.append("raised")
    assert clock.due() == 1
    assert fired == ["raised", 2]


def test_time_never_goes_back_while_another_thread_stops_and_starts():
    clock, stop, wrong = Clock(), threading.Event(), []

    def watch() -> None:
        last = 0
        while not stop.is_set():
            now = clock.now()
            if now < last:
                wrong.append((last, now))
            last = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(2000):
        clock.start()
        clock.stop()
    stop.set()
    watcher.join()
    assert wrong == []


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("arm"), st.integers(0, 5), st.integers(0, 100)),
            st.tuples(st.just("cancel"), st.integers(0, 5)),
            st.tuples(st.just("go"), st.integers(0, 40)),
        ),
        max_size=60,
    )
)
def test_random_timers_fire_as_a_plain_list_says(actions):
    clock, fired, expected = Clock(), [], []
    deadlines: list[tuple[int, int] | None] = [None] * 6
    timers = [clock.timer(lambda n=n: fired.append(n)) for n in range(6)]
    now = 0
    for turn, action in enumerate(actions):
        if action[0] == "arm":
            timers[action[1]].arm(action[2])
            deadlines[action[1]] = (action[2], turn)
        elif action[0] == "cancel":
            timers[action[1]].cancel()
            deadlines[action[1]] = None
        else:
            now += action[1]
            clock.restore(now)
            ready = sorted((d, n) for n, d in enumerate(deadlines) if d is not None and d[0] <= now)
            expected += [n for _, n in ready]
            for _, n in ready:
                deadlines[n] = None
            assert clock.due() == len(ready)
        assert fired == expected
        assert clock.next_deadline() == min((d[0] for d in deadlines if d), default=None)
