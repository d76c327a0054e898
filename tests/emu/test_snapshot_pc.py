"""A PC is saved under one accelerator and goes on under another: a guest that checks itself all the while."""

from __future__ import annotations

import random

import pytest

from accel.errors import EmuError
from emu.machine import Machine
from emu.snapshot.errors import SnapshotError
from tests.conftest import usable
from tests.emu.test_switch import (
    CONTROLLERS,
    INPUT,
    NAMES,
    WIRE,
    Wire,
    counts,
    guest,
    run_until_all_go_on,
)


def wander(tmp_path, first, ways, controllers, board="microvm"):
    """Runs it under `first`, then, from file to file, under each of the others."""
    draw = random.Random(7)
    image = guest(controllers)
    path = tmp_path / "pc"
    seen = dict.fromkeys(NAMES, 0)
    for number, accel in enumerate((first, *ways)):
        wire = Wire()
        with Machine(board, accel=accel, kernel=image, devices=[(wire, WIRE, INPUT)]) as machine:
            if number:
                machine.load(path)
                assert counts(machine) == seen
            run_until_all_go_on(machine, seen)
            machine.run(timeout=draw.random() * 0.02)
            before = counts(machine)
            wire.output.set(1)  # here it is taken to the CPU, there the CPU takes it
            machine.save(path)
            if number:
                run_until_all_go_on(machine, counts(machine))  # it goes on here, too
            seen = before


@pytest.mark.parametrize(("board", "times"), [("microvm", 2), ("pc", 1)])
def test_a_guest_that_the_kernels_controllers_served_goes_on_under_tcg_and_back(board, times, tmp_path):
    usable("kvm")
    kernel, own = CONTROLLERS["kernel"], CONTROLLERS["board"]
    wander(tmp_path, kernel, [kernel, "tcg", kernel, own, "tcg", own, kernel] * times, "kernel", board)


def test_a_guest_that_began_under_tcg_goes_on_under_kvm_and_back(tmp_path):
    usable("kvm")
    wander(tmp_path, "tcg", [CONTROLLERS["board"], "tcg"] * 3, "board")


@pytest.mark.parametrize("board", ["microvm", "pc"])
def test_a_guest_goes_on_under_tcg(board, tmp_path):
    wander(tmp_path, "tcg", ["tcg"] * 3, "board", board)


def test_one_that_would_lose_its_timer_is_refused_and_the_machine_is_as_it_was(tmp_path):
    usable("kvm")
    with Machine("microvm", accel=CONTROLLERS["kernel"], kernel=guest("kernel")) as machine:
        run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        cpu = machine.cpus[0].vcpu
        cpu.load({"lapic": cpu.save()["lapic"] | {"lvt_timer": 0x4_00EF}})
        machine.save(tmp_path / "deadline")
    with Machine("microvm", accel="tcg", kernel=guest("board")) as machine:
        run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        seen = counts(machine)
        with pytest.raises(SnapshotError, match="kernel-irqchip=off"):
            machine.load(tmp_path / "deadline")
        assert counts(machine) == seen
        run_until_all_go_on(machine, seen)
        machine.save(tmp_path / "slow")
    with Machine("microvm", accel=CONTROLLERS["kernel"], kernel=guest("board")) as machine:
        run_until_some(machine)
        with pytest.raises(EmuError, match="another pace"):
            machine.load(tmp_path / "slow")
        run_until_some(machine)


def run_until_some(machine):
    before = counts(machine)["rounds"]
    for _ in range(500):
        machine.run(timeout=0.02)
        if counts(machine)["rounds"] > before:
            return
    raise AssertionError("the guest stands still")


def test_two_processors_under_kvm_go_on_where_they_were(tmp_path):
    """The second one was never started, and is not by being loaded."""
    usable("kvm")
    accel = CONTROLLERS["kernel"]
    with Machine("microvm", accel=accel, kernel=guest("kernel"), cpus=2) as machine:
        run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        machine.save(tmp_path / "two")
        seen = counts(machine)
    with Machine("microvm", accel=accel, kernel=guest("kernel"), cpus=2) as machine:
        machine.load(tmp_path / "two")
        assert machine.cpus[1].vcpu.save()["mp_state"] == "uninitialized"
        run_until_all_go_on(machine, seen)
