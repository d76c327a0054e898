"""`--root`: a program sees a directory and nothing outside it.  The oracle is chroot, where it confines."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import usable
from tests.linux.conftest import emulate
from tests.linux.programs import GUESTS, build, native

PARTS = ("look", "change", "directories", "programs", "watch", "sockets", "rights")


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


@pytest.mark.parametrize("guest", GUESTS)
def test_what_chroot_leaves_open_is_closed(guest, tmp_path):
    """Inherited descriptors, the folders of /proc, mounts, handles: every line is a refusal."""
    root = lay(tmp_path, build("escape", GUESTS[guest][0]))
    outside = os.open(tmp_path, os.O_RDONLY)
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        accel = GUESTS[guest][1]
        usable(accel)
        command = [sys.executable, "-m", "emu", "--accel", accel, "--root", root]
        done = subprocess.run(
            [*command, "/program", "beyond", str(outside)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=[outside],
            text=True,
            timeout=60,
        )
    finally:
        os.close(outside)
        os.close(log)
    assert (done.returncode, (tmp_path / "log").read_text()) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) > 80
    assert not [line for line in lines if re.search(r"\bNO\b", line)]
    allowed = [line for line in lines if line.endswith(": ok")]
    assert allowed == ["readlink /proc/self/root: ok", "chroot /a: ok"]
    assert {"cwd link /", "exe link /program"} <= set(lines)
    kept(tmp_path)


@pytest.mark.parametrize("guest", GUESTS)
def test_a_terminal_that_a_confined_guest_made_is_its_own(guest, tmp_path):
    (tmp_path / "tmp").mkdir()
    shutil.copy(build("calls", GUESTS[guest][0]), tmp_path / "program")
    expected = native("calls", "terminals")
    done = inside(tmp_path, guest, "terminals")
    assert (done.stdout, done.stderr, done.returncode) == (expected.output, "", expected.status)
    assert ": NO" not in done.stdout


def mix_up(root: Path, stop: threading.Event) -> None:
    """Renames the folders that a guest walks through, and has links to the outside in their place."""
    race, out = root / "race", root / "out"
    while not stop.is_set():
        for folder in (race / "x" / "y", race / "x"):
            with contextlib.suppress(OSError):
                folder.rename(out)
                folder.symlink_to(root.parent if folder.name == "x" else "../../..")
                folder.unlink()
            with contextlib.suppress(OSError):
                out.rename(folder)


@pytest.mark.parametrize("guest", ["aarch64", "x86_64", "x86_64 by kvm"])
def test_renames_during_a_walk_lead_nowhere(guest, tmp_path):
    root = lay(tmp_path, build("escape", GUESTS[guest][0]))
    (root / "race" / "x" / "y").mkdir(parents=True)
    stop = threading.Event()
    mixer = threading.Thread(target=mix_up, args=(root, stop))
    mixer.start()
    try:
        done = inside(root, guest, "race", "1")
    finally:
        stop.set()
        mixer.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, "raced\n", "")
    kept(tmp_path)
