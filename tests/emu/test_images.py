"""Ready guests: how they are kept, listed and removed; and busybox-arm64 from the command line."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import emu.block
from accel.errors import EmuError
from emu import folders
from emu.images import catalog, store
from emu.images.progress import Progress
from tests.emu.linux_guest import image as kernel
from tests.emu.terminal import Terminal

MIB = 1 << 20


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a folder for the user's data that are empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def sample(recipe: str = __name__) -> catalog.Image:
    """An image that this module makes."""
    return catalog.Image("sample", "a sample", "aarch64", recipe, "virt", "64M", "", disk=True)


def make(folder: Path, progress: Progress) -> None:
    """The recipe; a file `wait` beside the cache makes it wait until that is gone."""
    progress.step("making the disk", 2)
    (folder / "kernel").write_bytes(b"kernel")
    (folder / "initrd").write_bytes(b"initrd")
    progress.advance()
    stop = Path(folders.cache()).parent.parent / "wait"
    if stop.exists():
        stop.with_name("waits").touch()
        while stop.exists():
            time.sleep(0.01)
    emu.block.create(folder / "disk.qcow2", 2 * MIB)
    with emu.block.open(folder / "disk.qcow2") as disk:
        disk.write(0, b"as it was made")
    progress.advance()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emu", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_what_a_guest_writes_outlives_the_image_and_the_image_stays_as_it_was(homes: Path) -> None:
    image = sample()
    folder = store.guest(image)
    with emu.block.open(folder / store.DISK) as disk:
        assert disk.read(0, 14) == b"as it was made"
        disk.write(0, b"as the guest has")
    with emu.block.open(store.fetch(image) / store.DISK) as disk:
        assert disk.read(0, 14) == b"as it was made"
    assert store.remove(image)
    assert not store.remove(image)
    assert not (homes / "cache/emu/images/sample").exists()
    with emu.block.open(store.guest(image) / store.DISK) as disk:
        assert disk.read(0, 16) == b"as the guest has"
        assert disk.read(MIB, 16) == bytes(16)
    assert store.forget(image)
    assert not store.forget(image)


def test_the_disk_of_a_guest_that_runs_is_not_removed(homes: Path) -> None:
    folder = store.guest(sample())
    used = pytest.raises(EmuError, match="another process uses the image")
    with emu.block.open(folder / store.DISK), used:
        store.forget(sample())
    assert folder.is_dir()


def maker(*, started: Path) -> subprocess.Popen[str]:
    """Fetches the sample in a process of its own; returns when it is in the middle of it."""
    code = (
        "from tests.emu.test_images import sample; from emu.images import store; print(store.fetch(sample()))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not started.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_fetch_leaves_no_image_and_does_not_hinder_the_next(
    homes: Path, number: signal.Signals
) -> None:
    (homes / "wait").touch()
    process = maker(started=homes / "waits")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert not store.place(sample()).exists()
    images = homes / "cache/emu/images"
    if number == signal.SIGINT:
        assert [path.name for path in images.iterdir()] == [".sample.lock"]
    (homes / "wait").unlink()
    folder = store.fetch(sample())
    assert sorted(path.name for path in folder.iterdir()) == ["disk.qcow2", "edition", "initrd", "kernel"]
    assert sorted(path.name for path in images.iterdir()) == [".sample.lock", "sample"]


def test_two_fetches_at_once_make_one_image(homes: Path) -> None:
    (homes / "wait").touch()
    first = maker(started=homes / "waits")
    second = subprocess.Popen(first.args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert "another emu is at work" in second.stderr.readline()
    (homes / "wait").unlink()
    told = [process.communicate(timeout=60) for process in (first, second)]
    assert [out.strip() for out, _ in told] == [str(store.place(sample()))] * 2
    assert "sample is ready" in told[0][1]
    assert "making" not in told[1][1]


def test_a_failure_is_one_line_and_leaves_nothing(homes: Path) -> None:
    with pytest.raises(EmuError, match="sample cannot be made"):
        store.fetch(sample("tests.emu.test_images_failing"))
    assert [path.name for path in (homes / "cache/emu/images").iterdir()] == [".sample.lock"]


def test_what_an_older_recipe_made_is_made_anew_and_stays_where_that_fails(
    homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store.fetch(sample())
    (folder / "kernel").write_bytes(b"an older one")
    assert (store.fetch(sample()) / "kernel").read_bytes() == b"an older one"
    failing = replace(sample("tests.emu.test_images_failing"), edition=2)
    capsys.readouterr()
    assert (store.fetch(failing, quiet=True) / "kernel").read_bytes() == b"an older one"
    assert capsys.readouterr().err.startswith(
        "emu: sample stays as another emu made it: sample cannot be made"
    )
    assert (store.fetch(replace(sample(), edition=2)) / "kernel").read_bytes() == b"kernel"
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["sample"]


def test_progress_is_a_line_for_each_step_and_renews_one_on_a_terminal() -> None:
    plain = io.StringIO()
    with Progress("guest", plain) as progress:
        progress.step("unpacking", 2)
        progress.advance()
        progress.step("tidying up")
    assert plain.getvalue() == "emu: guest: unpacking\nemu: guest: tidying up\n"
    assert progress.summary.endswith("s: unpacking 0 s, tidying up 0 s")

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    live = Tty()
    with Progress("guest", live) as progress:
        progress.step("unpacking", 2)
        progress.advance(2)
    assert live.getvalue().split("\r")[1:] == [
        "emu: guest: unpacking 0 of 2\x1b[K",
        "emu: guest: unpacking 2 of 2\x1b[K",
        "\x1b[K",
    ]


def test_the_list_has_every_image_and_says_which_are_here(homes: Path) -> None:
    listed = run("images", "--json")
    facts = {fact["name"]: fact for fact in json.loads(listed.stdout)}
    assert list(facts) == [image.name for image in catalog.CATALOG]
    assert not any(fact["here"] for fact in facts.values())
    here = homes / "cache/emu/images/busybox-arm64"
    here.mkdir(parents=True)
    (here / "kernel").write_bytes(bytes(5 * MIB))
    fact = next(fact for fact in json.loads(run("images", "list", "--json").stdout) if fact["here"])
    assert (fact["name"], fact["path"]) == ("busybox-arm64", str(here))
    assert fact["size"] >= 5 * MIB
    line = next(line for line in run("images").stdout.splitlines() if line.startswith("busybox-arm64"))
    assert line.split()[1:4] == ["aarch64", "5", "MB"]
    assert run("images", "remove", "busybox-arm64").returncode == 0
    assert not here.exists()
    again = run("images", "remove", "busybox-arm64")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("images", "fetch", "solaris"), "no image is called 'solaris'; there are busybox-arm64"),
        (("boot", "solaris"), "no image is called 'solaris'"),
        (("boot", "--snapshot"), "--snapshot is for the disk of an image"),
        (("boot", "busybox-arm64", "--machine", "microvm"), "is made for the board virt"),
        (("boot", "busybox-arm64", "--arch", "arm"), "is for aarch64"),
        (("boot", "busybox-arm64", "--firmware", "x"), "has no disk that firmware could boot"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(homes: Path, words: tuple[str, ...], cause: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert cause in done.stderr


def at_prompt(terminal: Terminal, command: str) -> list[str]:
    """The lines that a command prints at a shell's prompt; it must succeed."""
    terminal.type(f"echo =''begin=; {command}; echo =$?=\r".encode())
    said = terminal.wait_for(b"=0=").decode().replace("\r", "")
    return said.partition("=begin=\n")[2].split("\n")[:-1]


def test_busybox_gives_a_prompt_with_network_and_a_shared_folder(tmp_path: Path) -> None:
    kernel()  # skips where Debian's packages cannot be had
    (tmp_path / "note").write_text("from the host\n")
    terminal = Terminal("busybox-arm64", "--share", str(tmp_path), "--append", "only.here=1")
    try:
        terminal.wait_for(b"root@emu:/root# ", 120)
        said = at_prompt(terminal, "cat /mnt/note; uname -m; grep -c only.here=1 /proc/cmdline")
        assert said == ["from the host", "aarch64", "1"]
        assert any("10.0.2.15/24" in line for line in at_prompt(terminal, "ip -4 address show eth0"))
        terminal.type(b"echo from the guest > /mnt/answer; poweroff\r")
        assert terminal.ended(60) == 0
        assert terminal.restored()
    finally:
        terminal.close()
    assert (tmp_path / "answer").read_text() == "from the guest\n"
