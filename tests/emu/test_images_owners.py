"""Who owns a file, for programs that believe that they are root; the host's files stay their maker's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accel.errors import EmuError
from emu.images.owners import Owners
from emu.images.program import run
from tests.emu.linux_guest import package


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a busybox and nothing else."""
    (tmp_path / "bin").mkdir()
    busybox = tmp_path / "bin/busybox"
    busybox.write_bytes((package("busybox-static") / "bin/busybox").read_bytes())
    busybox.chmod(0o755)
    for name in ("sh", "chown", "stat", "id", "mv", "ln", "mkdir", "touch", "rm", "su"):
        (tmp_path / "bin" / name).symlink_to("busybox")
    return tmp_path


def said(root: Path, owners: Owners, script: str) -> list[str]:
    """The lines that a shell's script prints."""
    lines: list[bytes] = []
    run(["/bin/sh", "-ec", script], owners=owners, root=root, told=lines.append)
    return b"".join(lines).decode().splitlines()


def test_a_program_is_root_and_gives_files_away_that_stay_ours(root: Path) -> None:
    with Owners() as owners:
        assert said(root, owners, "id -u; id -g; stat -c %u:%g /bin") == ["0", "0", "0:0"]
        script = (
            "touch a; chown 5:8 a; mv a b; mkdir d; chown 7 d; chown :9 d; cd d; ln -s ../b l; chown 6:3 l"
        )
        assert said(root, owners, f"{script}; stat -c %u:%g /b . l") == ["6:3", "7:9", "0:0"]
        # A later program sees the same; -h is of the link itself.
        assert said(root, owners, "chown -h 4 d/l; chown 0:0 d; stat -c %u:%g b d d/l") == [
            "6:3",
            "0:0",
            "4:0",
        ]
    assert {path.lstat().st_uid for path in (root / "b", root / "d", root / "d/l")} == {os.geteuid()}


def test_a_new_file_is_root_s_though_it_takes_the_place_of_another_s(root: Path) -> None:
    with Owners() as owners:
        script = (
            "touch a; chown 5:5 a; rm a; for n in 1 2 3 4 5 6 7 8; do touch $n; done; stat -c %u:%g [1-8]"
        )
        assert said(root, owners, script) == ["0:0"] * 8


def test_what_is_not_there_cannot_be_given_away(root: Path) -> None:
    (root.parent / "outside").touch()
    with Owners() as owners:
        for path in ("missing", "/../outside", "/bin/busybox/x"):
            with pytest.raises(EmuError, match="failed in the new guest"):
                said(root, owners, f"chown 5 {path}")
