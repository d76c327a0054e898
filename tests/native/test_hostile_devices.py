"""Devices in C against a guest that does what it likes, under sanitizers.

EMU_FUZZ_CASES in the environment sets how many drivers or accesses each device meets.  Every run has a seed
of its own; a failure names that of its machine, and `fuzz_virtio KIND 32 SEED FOLDER` does it again.
"""

from __future__ import annotations

import ctypes.util
import os
import random
import subprocess

import pytest

MEMORY, THREADS = "address,undefined", "thread"
VIRTIO = ["blk", "qcow2", "frames", "stream", "user", "rng", "balloon", "9p", "console"]
OTHERS = ["gicv2", "gicv3", "gicv2m", "its", "msix", "apic", "pflash"]


def run(program, kind: str, cases: int, tmp_path, *more: str) -> None:
    seed = random.randrange(1 << 32)
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run(
        [program, kind, str(cases), str(seed), tmp_path, *more],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120 + cases // 50,
    )
    assert done.returncode == 0, f"{kind}, from seed {seed}: {done.stderr[-5000:]}"


def cases(usual: int) -> int:
    return int(os.environ.get("EMU_FUZZ_CASES", usual))


def need(kind: str) -> None:
    if kind == "user" and ctypes.util.find_library("slirp") is None:
        pytest.skip("no libslirp (libslirp0) for user networking")


@pytest.mark.parametrize("kind", VIRTIO)
def test_no_driver_breaks_a_virtio_device(devices, tmp_path, kind):
    need(kind)
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "beside").write_text("as it was")
    run(devices("fuzz_virtio", MEMORY), kind, cases(2000), place)
    assert (tmp_path / "beside").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "place"]


@pytest.mark.parametrize("kind", VIRTIO)
def test_a_virtio_device_is_changed_under_its_hands(devices, tmp_path, kind):
    need(kind)
    run(devices("fuzz_virtio", THREADS), kind, cases(200), tmp_path, "race")


@pytest.mark.parametrize("kind", OTHERS)
def test_registers_are_read_and_written_at_any_width_and_offset(devices, tmp_path, kind):
    # A write may start a queue of the ITS' commands.
    run(devices("fuzz_devices", MEMORY), kind, cases(10000 if kind == "its" else 100000), tmp_path)


@pytest.mark.parametrize("kind", OTHERS)
def test_cpus_use_the_same_registers(devices, tmp_path, kind):
    run(devices("fuzz_devices", THREADS), kind, cases(5000 if kind == "its" else 50000), tmp_path, "race")
