"""`--root`: a program sees a directory and nothing outside it.  The oracle is chroot, where it confines."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import usable
from tests.linux.conftest import emulate
from tests.linux.programs import GUESTS, build

PARTS = ("look", "change", "directories", "programs", "watch", "sockets")


def lay(folder: Path, program: Path) -> Path:
    """A root with links of every kind, beside which, and above which, lie things that are secret."""
    root = folder / "root"
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "inside").write_text("inside\n")
    (root / "a" / "b" / "inside").write_text("inside b\n")
    links = {
        "link-absolute": "/secret",
        "link-up": "../secret",
        "link-chain": "/link-up",
        "a/link-up": "../..",
        "a/link-root": "/",
        "link-loop": "link-loop",
        "link-dangling": "/nothing/at/all",
        "link-deep": "a/b/c/../../../../../..",
        "link-dots": "a/./b/../../inside",
        "a/b/link-parent": "../..",
        "link-beside": "../beside",
        "link-socket": "../socket",
        "link-program": "../../program",
        "outside-socket": str(folder / "outside-socket"),
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    shutil.copy(program, root / "program")
    for name, interpreter in (("script", "/program"), ("script-outside", "../secret-program")):
        (root / name).write_text(f"#!{interpreter} inner\n")
        (root / name).chmod(0o755)
    (folder / "beside").mkdir()
    for name in ("secret", "beside/secret"):
        (folder / name).write_text("secret\n")
    shutil.copy(program, folder / "secret-program")
    return root


def kept(folder: Path) -> None:
    """What lies outside the root is as it was laid."""
    names = {path.name for path in folder.iterdir()} - {"outside-socket", "log"}
    assert names == {"root", "secret", "beside", "secret-program"}
    assert [path.name for path in (folder / "beside").iterdir()] == ["secret"]
    for name in ("secret", "beside/secret"):
        assert (folder / name).read_text() == "secret\n"
        assert (folder / name).stat().st_mode & 0o777 == 0o644


def inside(root: Path, guest: str, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    accel = GUESTS[guest][1]
    usable(accel)
    return emulate("--root", root, "/program", *words, accel=accel, cwd="/", **options)


@functools.cache
def chrooted(part: str) -> str:
    """The same natively, under the kernel's own chroot."""
    import tempfile

    if os.geteuid() or platform.machine() != "x86_64":
        pytest.skip("the oracle, chroot, needs root on an x86-64 host")
    with tempfile.TemporaryDirectory() as folder:
        root = lay(Path(folder), build("escape", "x86_64"))
        done = subprocess.run(
            ["chroot", str(root), "/program", part], capture_output=True, text=True, timeout=60, cwd="/"
        )
        assert done.returncode == 0
        return done.stdout


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("guest", GUESTS)
def test_paths_lead_where_chroot_leads_them(guest, part, tmp_path):
    root = lay(tmp_path, build("escape", GUESTS[guest][0]))
    done = inside(root, guest, part)
    assert (done.returncode, done.stderr) == (0, "")
    assert "NO, " not in done.stdout
    assert done.stdout == chrooted(part)
    kept(tmp_path)
