"""`emu PROGRAM`: how it ends, what it refuses, which files it sees."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.linux.conftest import ROOT, emulate


def test_the_exit_status_is_the_programs(isa, build):
    echo = build("echo", isa)
    done = emulate(echo, "a", "b c")
    assert (done.returncode, done.stdout, done.stderr) == (3, f"{echo}\na\nb c\n", "")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL, signal.SIGPIPE, signal.SIGUSR1]
)
def test_a_signal_that_kills_the_program_kills_emu(number, build):
    assert emulate(build("die", "aarch64"), int(number)).returncode == -number


def test_a_signal_whose_default_is_to_be_ignored_changes_nothing(build):
    assert emulate(build("die", "aarch64"), int(signal.SIGCHLD)).returncode == 0


def test_input_and_output_are_inherited(isa, build):
    assert emulate(build("die", isa), input="through\n" * 1000).stdout == "through\n" * 1000


def test_argv0_and_the_environment_are_what_was_asked_for(build):
    done = emulate("-0", "other name", "-E", "COLOUR=blue", build("start", "aarch64"), "x")
    assert "argument other name\nargument x\n" in done.stdout
    assert "variable COLOUR=blue\n" in done.stdout


def test_a_bare_name_is_searched_in_path(build, tmp_path):
    link = tmp_path / "some-program"
    link.symlink_to(build("echo", "riscv64"))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert emulate("some-program", env=environ).stdout == "some-program\n"


def test_a_script_runs_with_its_interpreter(build, tmp_path):
    script = tmp_path / "script"
    script.write_text(f"#!{build('echo', 'arm')} -x\nwhatever\n")
    script.chmod(0o755)
    done = emulate(script, "y")
    assert done.stdout.splitlines()[1:] == ["-x", str(script), "y"]
    assert done.returncode == 4


def elf(machine: int = 183, klass: int = 2, order: int = 1) -> bytearray:
    """A header alone, of a program that cannot be loaded."""
    head = bytearray(64)
    head[:7] = b"\x7fELF" + bytes((klass, order, 1))
    head[16], head[18], head[20] = 2, machine, 1
    return head


WRONG = {
    "missing": (None, 127, "No such file or directory"),
    "folder": (None, 126, "is a directory"),
    "device": (None, 126, "is not a regular file"),
    "not-executable": (b"\x7fELF", 126, "chmod +x"),
    "empty": (b"", 126, "too few for its header"),
    "text": (
        b"hello, this is no program and has more bytes than an ELF header needs to have\n",
        126,
        "not an ELF file",
    ),
    "cut-short": (bytes(elf())[:60], 126, "truncated"),
    "header-only": (bytes(elf()), 126, "no program headers"),
    "class-3": (bytes(elf(klass=3)), 126, "ELF class is 3"),
    "byte-order": (bytes(elf(order=7)), 126, "byte order is 7"),
    "nobody": (bytes(elf(machine=2)), 126, ""),
    "lost-script": (b"#!/nowhere/at/all\n", 126, "/nowhere/at/all"),
    "bare-script": (b"#!\n", 126, "names no interpreter"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_run_is_one_line(name, tmp_path):
    content, status, words = WRONG[name]
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "device":
        path = Path("/dev/null")
    elif content is not None:
        path.write_bytes(content)
        path.chmod(0o644 if name == "not-executable" else 0o755)
    done = emulate(path)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("emu: ")
    assert words in done.stderr


def patched(path: str, at: int, value: bytes, to: Path) -> Path:
    image = bytearray(Path(path).read_bytes())
    image[at : at + len(value)] = value
    to.write_bytes(image)
    to.chmod(0o755)
    return to


def first_load(path: str) -> int:
    """File offset of the first PT_LOAD header of a 64-bit program."""
    image = Path(path).read_bytes()
    count = int.from_bytes(image[56:58], "little")
    return next(at for at in range(64, 64 + 56 * count, 56) if image[at : at + 4] == b"\1\0\0\0")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (8, 1 << 62, "outside the file"),
        (16, 0xFFFF_FFFF_FFFF_F000, "does not fit the address space"),
        (32, 1 << 40, "smaller in memory"),
        (40, 1 << 63, "overlap"),
        (40, 1 << 45, "overlap"),
        (48, 0x1001, "no power of two"),
        (16, 0x123, ""),
    ],
)
def test_a_hostile_segment_is_refused(field, value, words, build, tmp_path):
    path = build("echo", "aarch64")
    bad = patched(path, first_load(path) + field, value.to_bytes(8, "little"), tmp_path / "bad")
    done = emulate(bad)
    assert done.returncode == 126, (done.returncode, done.stderr)
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_an_entry_point_outside_the_code_is_refused(build, tmp_path):
    bad = patched(build("echo", "aarch64"), 24, (0x10).to_bytes(8, "little"), tmp_path / "bad")
    done = emulate(bad)
    assert (done.returncode, "entry point" in done.stderr) == (126, True)


def test_a_missing_loader_is_told_with_the_remedy(build):
    done = emulate(build("echo", "aarch64", "-O1"))
    assert done.returncode == 126
    assert "-L" in done.stderr
    assert done.stderr.count("\n") == 1


def test_kvm_for_a_foreign_program_is_a_wrong_use(build):
    done = emulate("--accel", "kvm", build("echo", "aarch64"))
    assert done.returncode == 2
    assert "aarch64" in done.stderr


@pytest.mark.parametrize("root", ["missing", "file"])
def test_a_sysroot_that_is_no_directory_is_refused(root, tmp_path, build):
    (tmp_path / "file").write_text("x")
    done = emulate("-L", tmp_path / root, build("echo", "aarch64"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.fixture
def sysroot(tmp_path, build):
    """A root with links of every kind, and the program that reads them."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "etc" / "hostname").write_text("guest\n")
    (root / "etc" / "absolute").symlink_to("/etc/hostname")
    (root / "etc" / "relative").symlink_to("../etc/hostname")
    (root / "etc" / "outside").symlink_to("../../../../../../../../etc/hostname")
    (root / "etc" / "chain").symlink_to("/etc/absolute")
    (root / "etc" / "loop").symlink_to("loop")
    (root / "etc" / "folder").symlink_to("/etc")
    (root / "bin" / "show").write_bytes(Path(build("show", "aarch64")).read_bytes())
    (root / "bin" / "show").chmod(0o755)
    return root


def test_the_sysroots_files_come_first_and_its_links_stay_inside(sysroot):
    paths = ["hostname", "absolute", "relative", "outside", "chain", "folder/hostname", "../etc//./hostname"]
    done = emulate("-L", sysroot, "/bin/show", *(f"/etc/{path}" for path in paths))
    assert done.stdout == "guest\n" * len(paths)


def test_what_the_sysroot_has_not_is_the_hosts(sysroot, tmp_path):
    (tmp_path / "only-here").write_text("host\n")
    done = emulate("-L", sysroot, "/bin/show", tmp_path / "only-here", "/nowhere", "/etc/loop")
    assert done.stdout == "host\nNo such file or directory\nToo many levels of symbolic links\n"


def test_links_of_the_host_lead_where_they_lead_a_guest(sysroot, tmp_path):
    links = {
        "absolute": "/etc/hostname",
        "chain": "absolute",
        "folder": "/etc/folder/hostname",
        "host": str(tmp_path / "only-here"),
        "nowhere": "/nowhere",
        "loop": "loop",
    }
    (tmp_path / "only-here").write_text("host\n")
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "program").symlink_to("/bin/show")
    answers = "guest\n" * 3 + "host\nNo such file or directory\nToo many levels of symbolic links\n"
    absolute = [tmp_path / name for name in links]
    assert emulate("-L", sysroot, tmp_path / "program", *absolute).stdout == answers
    assert emulate("-L", sysroot, "./program", *links, cwd=tmp_path).stdout == answers
    # A descriptor is what it is of, whatever the sysroot has by that name.
    (sysroot / tmp_path.relative_to("/")).mkdir(parents=True)
    (sysroot / tmp_path.relative_to("/") / "only-here").write_text("guest\n")
    with open(tmp_path / "only-here") as hosts:
        path = f"/proc/self/fd/{hosts.fileno()}"
        given = emulate("-L", sysroot, "/bin/show", path, tmp_path / "only-here", pass_fds=[hosts.fileno()])
    assert given.stdout == "host\nguest\n"


def test_an_empty_directory_of_the_sysroot_hides_nothing_of_the_hosts(tmp_path, build):
    root, host = tmp_path / "root", tmp_path / "host"
    for folder in (host / "both", host / "here", root / str(host)[1:] / "both", root / "only"):
        folder.mkdir(parents=True)
    (host / "both" / "theirs").touch()
    (host / "here" / "ours").touch()
    inside = root / str(host)[1:]
    done = emulate("-L", root, build("list", "aarch64"), f"{host}/both", f"{host}/here", "/only")
    assert done.stdout == f"{host}/both theirs\n{host}/here ours\n/only\n"
    (inside / "both" / "mine").touch()
    assert emulate("-L", root, build("list", "aarch64"), f"{host}/both").stdout == f"{host}/both mine\n"


def test_the_process_can_be_run_from_python(build):
    from emu.linux.process import Process

    with Process(build("echo", "aarch64"), ["echo", "one"], accel="tcg") as process:
        assert process.run() == 2
    with Process(build("die", "arm"), ["die", str(int(signal.SIGTERM))], accel="tcg") as process:
        assert process.run() == -signal.SIGTERM


def test_a_process_can_be_run_again_until_it_is_closed(build):
    from accel.errors import EmuError
    from emu.linux.process import Process

    process = Process(build("echo", "aarch64"), accel="tcg")
    assert [process.run(), process.run()] == [1, 1]
    process.close()
    with pytest.raises(EmuError, match="another Process"):
        process.run()


def test_a_program_needs_little_memory(build):
    script = (
        "import resource, sys\n"
        "from emu.linux.process import Process\n"
        f"Process({build('echo', 'aarch64')!r}, accel='tcg').run()\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert int(done.stdout.splitlines()[-1]) < 80 << 10
