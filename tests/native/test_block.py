"""Disk images without an interpreter, under sanitizers: hostile ones, crashes, full disks, threads.

EMU_FUZZ_CASES in the environment sets how many images fuzz_block.c tries.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BLOCK = HERE.parent.parent / "emu" / "block" / "native"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def build(tmp_path_factory, sanitized):
    """build(program, sanitizers) -> path; skips where the compiler or its sanitizer is missing."""
    folder = tmp_path_factory.mktemp("native")

    def build(program: str, sanitize: str = "address,undefined") -> Path:
        out = folder / f"{program}-{sanitize}"
        if out.exists():
            return out
        command = [*sanitized(sanitize), *FLAGS, "-I", str(BLOCK), "-I", str(HERE)]
        command += [str(HERE / f"{program}.c"), *sorted(map(str, BLOCK.glob("*.c")))]
        subprocess.run([*command, "-pthread", "-ldl", "-o", str(out)], check=True, timeout=300)
        return out

    return build


@pytest.fixture(scope="module")
def qemu():
    """qemu(word ...): qemu-img or qemu-io."""
    if shutil.which("qemu-img") is None:
        pytest.skip("no qemu-img (qemu-utils)")

    def run(*words: object) -> None:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_flushes_sync_and_a_full_disk_leaves_a_sound_image(build, tmp_path, sanitize):
    run(build("test_block", sanitize), tmp_path)


def test_hostile_images_are_refused_or_harmless(build, qemu, tmp_path):
    rng = random.Random(1)
    words = [rng.randbytes(rng.randrange(3, 40)) for _ in range(50)]
    text = tmp_path / "text.raw"
    text.write_bytes(b"".join(rng.choice(words) * rng.randrange(1, 9) for _ in range(6000))[:300000])
    images = [tmp_path / f"{which}.qcow2" for which in range(5)]
    qemu("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "cluster_size=4096", text, images[0])
    qemu("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", text, images[1])
    qemu("qemu-img", "create", "-f", "qcow2", "-o", "cluster_size=1024", images[2], "1M")
    for name in ("one", "two"):
        qemu("qemu-io", "-c", f"write {len(name) * 50}k 200k", images[2])
        qemu("qemu-img", "snapshot", "-c", name, images[2])
    qemu("qemu-img", "create", "-f", "qcow2", "-b", images[0], "-F", "qcow2", images[3])
    qemu("qemu-img", "create", "-f", "qcow2", "-o", "preallocation=metadata", images[4], "1M")
    seed, cases = random.randrange(1 << 32), int(os.environ.get("EMU_FUZZ_CASES", "10000"))
    fuzz = [str(word) for word in (build("fuzz_block"), tmp_path, cases, seed, *images)]
    done = subprocess.run(fuzz, capture_output=True, text=True, timeout=120 + cases // 200)
    assert done.returncode == 0, f"from case {seed}: {done.stderr[-4000:]}"
    # qemu-img's opinion of some that were sound and were used.
    pairs = sorted(tmp_path.glob("before-*.qcow2"))
    assert pairs
    for before in pairs:
        after = before.with_name(before.name.replace("before", "after"))
        were, are = (
            subprocess.run(
                ["qemu-img", "check", "-f", "qcow2", path], capture_output=True, text=True, timeout=60
            )
            for path in (before, after)
        )
        if were.returncode == 0:  # 3: counts that were beyond the end of the file are leaks within it
            assert are.returncode in (0, 3), f"{after} from case {seed}: {are.stdout}{are.stderr}"


IMAGES = {
    "clusters of 4096": ("cluster_size=4096", False),
    "clusters of 65536": ("cluster_size=65536", False),
    "clusters of 512": ("cluster_size=512,refcount_bits=64", False),
    "version 2": ("compat=0.10,cluster_size=2048", False),
    "snapshots": ("cluster_size=1024", True),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_crash_after_any_system_call_leaves_a_sound_image_with_all_that_was_flushed(
    build, qemu, tmp_path, kind
):
    options, snapshot = IMAGES[kind]
    image, folder = tmp_path / "first.qcow2", tmp_path / "crashes"
    folder.mkdir()
    qemu("qemu-img", "create", "-f", "qcow2", "-o", options, image, "2M")
    if snapshot:
        qemu("qemu-io", "-c", "write -P 0x61 0 1M", image)
        qemu("qemu-img", "snapshot", "-c", "one", image)
    run(build("crash_block"), folder, 1, 25, image)
    # qemu-img sees no more in them than we do; 3 is its word for clusters that are lost.
    for crashed in sorted(folder.glob("*-*.qcow2"))[::5]:
        checked = subprocess.run(
            ["qemu-img", "check", "-f", "qcow2", str(crashed)], capture_output=True, text=True, timeout=60
        )
        assert checked.returncode in (0, 3), checked.stdout + checked.stderr
