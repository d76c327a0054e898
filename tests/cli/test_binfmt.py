"""`emu binfmt`, in a user namespace with a binfmt_misc of its own: the machine's is never touched."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emu import binfmt
from emu.cli import main
from tests.cli.test_shell import ROOT, lay, run
from tests.linux.programs import build
from tests.linux.test_debian import package

EMU = Path(sys.executable).parent / "emu"
# In Debian's words, as qemu-user-binfmt registers them for the same programs.
QEMU = {
    "aarch64": r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    "arm": r"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00",
    "riscv64": r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00",
}
SET_UP = f"PATH={EMU.parent}:$PATH; cd {binfmt.FOLDER}\n"


def alone(script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script as root of a namespace whose kernel knows no foreign programs yet."""
    try:
        binfmt.interpreter()
    except binfmt.Unavailable as error:
        pytest.skip(str(error))
    words = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", SET_UP + script]
    done = subprocess.run(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    if "unshare failed" in done.stderr or "cannot be mounted" in done.stderr:
        pytest.skip(f"a user namespace has no binfmt_misc of its own here (Linux 6.7): {done.stderr.strip()}")
    return done


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay(tmp_path_factory.mktemp("binfmt") / "root")


def test_the_lines_are_those_of_others_for_the_same_programs(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        binfmt.interpreter()
    except binfmt.Unavailable as error:
        pytest.skip(str(error))
    assert main(["binfmt", "print", "arm64", "armhf", "riscv64"]) == 0
    lines = [each for each in capsys.readouterr().out.splitlines() if not each.startswith("#")]
    for each, (arch, magic) in zip(lines, QEMU.items(), strict=True):
        _, name, kind, offset, first, mask, program, flags = each.split(":")
        assert (name, kind, offset, flags) == (f"emu-{arch}", "M", "", "PF")
        assert re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), first) == re.sub(
            r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), magic
        )
        assert mask == r"\xff\xff\xff\xff\xff\xff\xff\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
        assert os.access(program, os.X_OK)


def test_a_chroot_has_its_programs_run_without_anything_of_ours_in_it(root: Path) -> None:
    """And what it starts is told its name, as natively."""
    shutil.copy(build("born", "aarch64"), root / "born")
    done = alone(
        f"emu binfmt install arm64; chroot {root} /bin/uname -m\n"
        f"chroot {root} /bin/sh -c 'id -u; /bin/busybox sh -c \"exit 5\"'; echo $?\n"
        f'exec {sys.executable} -c \'import os; os.chroot("{root}")\n'
        'os.execve("/born", ["another name", "word"], {"A": "1"})\''
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["aarch64", "0", "5"], done.stderr
    assert lines[3:5] == ["argument another name", "argument word"]
    assert (done.returncode, done.stderr) == (3, "")


def test_programs_of_other_isas_are_emu_s_where_it_is_in_reach(root: Path) -> None:
    busybox = package("busybox-static", "armhf") + "/bin/busybox"
    shutil.copy(busybox, root / "bin/busybox-arm")
    done = alone(f"emu binfmt install; {busybox} uname -m; chroot {root} /bin/busybox-arm uname -m; echo $?")
    assert done.stdout == "armv7l\n126\n"
    text = (
        "/bin/busybox-arm: without emu in reach only arm64 programs are run; emu shell enters roots of others"
    )
    assert done.stderr == f"emu: {text}, too\n"


def test_registrations_come_and_go_and_others_are_told_of() -> None:
    other = (
        ":other:M::"
        + QEMU["aarch64"]
        + ":"
        + r"\xff" * 7
        + r"\x00"
        + r"\xff" * 8
        + r"\xfe\xff\xff\xff"
        + ":/x:"
    )
    done = alone(
        "mount -t binfmt_misc none .; cd .\n"
        f"cd {binfmt.FOLDER}; printf '%s' '{other}' > register\n"
        "emu binfmt install --credentials arm64; emu binfmt install arm64 armhf; ls; cat emu-aarch64\n"
        "emu binfmt remove arm64; ls; emu binfmt remove; emu binfmt remove; ls"
    )
    words = done.stdout.split()
    assert words[:5] == ["emu-aarch64", "emu-arm", "other", "register", "status"], done.stderr
    assert words[words.index("flags:") + 1] == "PF"
    assert words[-7:] == ["emu-arm", "other", "register", "status", "other", "register", "status"]
    text = "emu: other is registered for aarch64, too; the newer one counts, which is emu's now\n"
    assert done.stderr == text * 2


def test_a_file_for_systemd_is_written_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the kernel's folder is one that only looks like it."""
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    for name in ("register", "emu-arm"):
        (kernel / name).touch()
    monkeypatch.setattr(binfmt, "FOLDER", kernel)
    monkeypatch.setattr(binfmt, "CONFIGURATION", tmp_path / "conf" / "emu.conf")
    monkeypatch.setattr(binfmt, "OTHERS", (str(tmp_path / "conf"),))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/qemu-arm.conf").write_text(f":qemu-arm:M::{QEMU['arm']}:mask:/qemu:F\n")
    try:
        binfmt.interpreter()
    except binfmt.Unavailable as error:
        pytest.skip(str(error))
    assert main(["binfmt", "install", "--persist", "arm", "riscv64"]) == 0
    written = (tmp_path / "conf/emu.conf").read_text()
    main(["binfmt", "print", "arm", "riscv64"])
    printed = capsys.readouterr()
    assert written == printed.out
    assert (kernel / "register").read_text() in written
    assert printed.err == (
        f"emu: {tmp_path}/conf/qemu-arm.conf is read after emu's at boot, and then counts; for emu's instead:"
        " ln -s /dev/null /etc/binfmt.d/qemu-arm.conf\n"
    )
    main(["binfmt", "remove", "arm"])
    assert (kernel / "emu-arm").read_text() == "-1"
    assert [each[:6] for each in (tmp_path / "conf/emu.conf").read_text().splitlines()][-1] == ":emu-r"
    main(["binfmt", "remove"])
    assert not (tmp_path / "conf/emu.conf").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["print", "sparc"], "unknown architecture 'sparc'; known: aarch64, arm, riscv64, x86_64"),
        (["install", os.uname().machine], "this host's own, which the kernel runs; leave it out"),
        (["instal"], "did you mean"),
        (["print", "--persist"], "--persist"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(words, text, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["binfmt", *words])
    except SystemExit as error:
        status = error.code
    told = capsys.readouterr().err
    assert status == 2
    assert text in told
    assert told.count("\n") == 1


def test_who_may_not_register_is_told_who_may(root: Path) -> None:
    words = ["unshare", "--user", "--map-user=1000", EMU, "binfmt", "install"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if "unshare failed" in done.stderr or "not installed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 2
    assert re.fullmatch(
        r"emu: .*; be root, or in a user and mount namespace of your own on Linux 6.7.*\n", done.stderr
    )


def test_in_emu_shell_the_host_s_programs_start_foreign_ones(root: Path) -> None:
    """A shell of the host's own architecture, in a root of another."""
    if os.uname().machine != "x86_64":
        pytest.skip("the host's program is Debian's for amd64")
    alone("emu binfmt install")  # or it is skipped
    shutil.copy(package("busybox-static", "amd64") + "/bin/busybox", root / "bin/busybox-amd64")
    done = run(root, "/bin/busybox-amd64", "sh", "-c", "/bin/busybox-amd64 uname -m; /bin/uname -m; exit 6")
    assert (done.stdout, done.stderr, done.returncode) == ("x86_64\naarch64\n", "", 6)
