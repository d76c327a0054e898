"""emu boot --dumpdtb: the device tree that the guest would get."""

import subprocess
import sys

import pytest

KERNEL = b"\x1f\x20\x03\xd5" * 16  # NOPs


def dumped(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "emu", "boot", *words, "--dumpdtb", "tree"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_it_has_the_command_line_and_the_initrd_and_is_taken_back(tmp_path):
    (tmp_path / "kernel").write_bytes(KERNEL)
    (tmp_path / "initrd").write_bytes(bytes(5000))
    words = ["--machine", "virt", "--arch", "aarch64", "--kernel", "kernel"]
    more = ["--initrd", "initrd", "--append", "quiet only.here=1"]
    assert dumped(tmp_path, *words, *more) == (0, "")
    tree = (tmp_path / "tree").read_bytes()
    assert tree[:4] == b"\xd0\x0d\xfe\xed"
    for part in (b"quiet only.here=1\0", b"linux,initrd-start\0", b"virtio_mmio@", b"arm,cortex-a15-gic\0"):
        assert part in tree
    (tmp_path / "tree").rename(tmp_path / "mine")
    assert dumped(tmp_path, *words, "--dtb", "mine") == (0, "")
    assert (tmp_path / "tree").read_bytes() == tree
    assert sorted(path.name for path in tmp_path.iterdir()) == ["initrd", "kernel", "mine", "tree"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--machine", "microvm", "--accel", "tcg"], "has no device tree; leave --dumpdtb out"),
        (["--machine", "virt", "--dtb", "none"], "does not exist"),
    ],
)
def test_what_cannot_be_dumped_is_said_in_one_line(tmp_path, words, reason):
    status, said = dumped(tmp_path, *words)
    assert (status, said.count("\n")) == (2, 1)
    assert reason in said
    assert not (tmp_path / "tree").exists()
