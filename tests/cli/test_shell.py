"""`emu shell`: a root of Debian's busybox for arm64, entered in namespaces of its own."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emu.roots import namespace
from emu.shell import PATH
from tests.linux.programs import build
from tests.linux.test_debian import package
from tests.linux.test_signals_terminal import Terminal

ROOT = Path(__file__).parent.parent.parent
SHELL = [sys.executable, "-m", "emu", "shell"]
APPLETS = (
    "sh", "cat", "echo", "id", "uname", "mount", "umount", "touch", "ls", "sleep", "env", "chown", "kill",
    "pwd", "readlink", "mkdir", "hostname",
)  # fmt: skip


def run(*words: object, before: tuple[str, ...] = (), **options) -> subprocess.CompletedProcess[str]:
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [*before, *SHELL, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def lay(folder: Path) -> Path:
    """A root of busybox, and of what little a user needs."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(Path(package("busybox-static", "arm64")) / "bin/busybox", folder / "bin/busybox")
    for name in APPLETS:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:7:8::/home:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nours:x:8:\nothers:x:9:me\n")
    return folder


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay(tmp_path_factory.mktemp("shell") / "root")


@pytest.fixture
def root(laid: Path) -> Path:
    if cause := namespace.obstacle():
        pytest.skip(cause)
    return laid


def test_a_command_is_root_in_a_system_of_its_own(root: Path) -> None:
    look = (
        'id -u; uname -m; pwd; echo $$ "$HOME" "$PATH" "$SECRET" $GIVEN; cd /proc; echo [0-9]*; ls /dev/pts'
    )
    given = {**os.environ, "SECRET": "told", "GIVEN": "given"}
    done = run("-E", "GIVEN", root, "sh", "-c", look, env=given)
    # Process 1 waits for the shell, and there is no third but ls, which sees itself.
    assert done.stdout == f"0\naarch64\n/\n2 /root {PATH}  given\n1 2\nptmx\n"
    assert (done.returncode, done.stderr) == (0, "")
    devices = run(root, "sh", "-c", "cat /dev/null; echo x > /dev/full")
    assert devices.stderr.endswith("No space left on device\n")
    assert devices.returncode == 1


def test_it_ends_as_the_command_does(root: Path) -> None:
    assert run(root, "sh", "-c", "exit 3").returncode == 3
    assert run(root, "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert run(root, "sh", "-c", "cat; exit 4", input="through\n", stdin=None).stdout == "through\n"


def test_what_is_left_over_ends_with_the_command(root: Path) -> None:
    """The pipe ends when the last process that has it does."""
    done = run(root, "sh", "-c", "sleep 1000 & sleep 1000 & echo here")
    assert done.stdout == "here\n"


def test_a_signal_to_who_waits_reaches_the_command(root: Path) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [*SHELL, root, "sh", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=60)[0] == "caught\n"
    assert process.returncode == 5


def test_whoever_kills_who_waits_kills_all_of_it(root: Path) -> None:
    words = [*SHELL, root, "sh", "-c", "echo ready; sleep 1000"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    assert process.communicate(timeout=60)[0] == ""  # nobody holds the pipe any more


HARM = """
echo x > /proc/sys/kernel/core_pattern; mount -o remount,rw /proc/sys; umount /proc/sys; umount -l /dev
mount -t tmpfs none /bin; echo x > /sys/kernel/uevent_helper; hostname emu-test; exit 0
"""


def test_the_host_s_kernel_is_not_changed_from_inside(root: Path) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    done = run(root, "sh", "-c", HARM)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before
    refusals = done.stderr.splitlines()
    assert len(refusals) == 7, done.stderr
    assert all(
        "ermission denied" in line or "not permitted" in line or "ead-only" in line for line in refusals
    )


def test_what_the_caller_has_open_is_no_way_out(root: Path) -> None:
    """Through a folder's descriptor one would reach what lies above it."""
    outside = os.open(ROOT, os.O_RDONLY)
    try:
        ways = [f"self/fd/{outside}", f"1/fd/{outside}", "1/root", "1/cwd"]
        script = "cat " + " ".join(f"/proc/{way}/README.md" for way in ways)
        done = run(root, "sh", "-c", script, pass_fds=[outside])
    finally:
        os.close(outside)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 4


def test_folders_of_the_host_are_seen_where_they_are_bound(root: Path, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("word\n")
    binds = [
        "--bind",
        f"{tmp_path}:/srv/a",
        "--bind",
        f"{tmp_path}:ro",
        "--bind",
        f"{tmp_path}/word:/etc/word:ro",
    ]
    script = f"pwd; cat word /etc/word; echo new > new; echo new > {tmp_path}/never; echo x > /etc/word; ls"
    done = run(*binds, "--workdir", "/srv/a", root, "sh", "-c", script)
    assert done.stdout == "/srv/a\nword\nword\nnew\nword\n"
    assert done.stderr.count("Read-only file system") == 2
    assert (tmp_path / "new").read_text() == "new\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "word"]
    assert (root / "srv/a").is_dir()
    assert not list((root / "srv/a").iterdir())


LINKS = {
    "way": ("/outside/{0}", "way: File exists"),  # the root has no such folder, and none is made outside
    "proc": ("../../../{0}", "proc: File exists"),
    "dev": ("loop", "/dev: Too many levels of symbolic links"),
    "tmp": ("/bin/busybox", "{0}/bin/busybox: Not a directory"),
    "etc": ("/proc/self/root{0}", ""),  # then there is no resolv.conf
}


@pytest.mark.parametrize("name", LINKS)
def test_nothing_is_mounted_outside_by_the_root_s_links(name: str, root: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "root"
    shutil.copytree(root, hostile, symlinks=True)
    shutil.rmtree(hostile / name, ignore_errors=True)
    (tmp_path / "outside").mkdir()
    target, text = LINKS[name]
    (hostile / name).symlink_to(target.format(tmp_path / "outside"))
    (hostile / "loop").symlink_to("loop")
    done = run("--bind", f"{ROOT}/isa:/way/in", hostile, "echo", "run")
    if text:
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"emu: the root {hostile} cannot be set up: {text.format(hostile)}\n"
    else:
        assert (done.stdout, done.stderr) == ("run\n", "")
    assert not list((tmp_path / "outside").iterdir())


def test_a_root_that_is_read_only_has_a_tmp(root: Path) -> None:
    done = run("--read-only", root, "sh", "-c", "echo x > /x; echo y > /tmp/y && cat /tmp/y")
    assert (done.stdout, done.stderr.count("Read-only file system")) == ("y\n", 1)
    assert not (root / "tmp/y").exists()


def test_without_a_network_there_is_only_a_loopback(root: Path) -> None:
    assert run("--network", "none", root, "ls", "/sys/class/net").stdout == "lo\n"


def test_users_are_the_root_s(root: Path) -> None:
    if os.geteuid():
        pytest.skip("other users than root are root's to give; newuidmap would, where /etc/subuid has some")
    done = run("--user", "me", root, "sh", "-c", "id -u; id -g; id -G; echo $HOME $USER")
    assert done.stdout == "7\n8\n8 9\n/home me\n"
    assert run("--user", "me:others", root, "id", "-g").stdout == "9\n"
    assert run("--user", "70:80", root, "sh", "-c", "id -u; id -g; chown 0 /tmp").stdout == "70\n80\n"


def test_an_ordinary_user_is_root_alone(root: Path, tmp_path: Path) -> None:
    """The files are that user's; so a namespace where the caller is 1000 stands for the user."""
    shutil.copytree(root, tmp_path / "root", symlinks=True)
    before = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    done = run(tmp_path / "root", "sh", "-c", "id -u; echo x > /made; cat /proc/self/uid_map", before=before)
    assert done.stdout.split() == ["0", "0", "1000", "1"]
    assert (tmp_path / "root/made").stat().st_uid == os.geteuid()
    refused = run("--user", "me", tmp_path / "root", "id", before=before)
    assert refused.returncode == 2
    assert refused.stderr.startswith("emu: user me cannot be taken (")


def test_a_host_without_namespaces_is_told_of_in_a_line(laid: Path) -> None:
    """In a user namespace whose limit of further ones is 0."""
    limit = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")
    done = run("--workdir", "/etc", laid, "sh", "-c", "uname -m; pwd; ls passwd; exit 6", before=before)
    if "unshare failed" in done.stderr or "annot create" in done.stderr:
        pytest.skip("this host has no user namespaces to take them away in")
    assert (done.returncode, done.stdout) == (6, "aarch64\n/etc\npasswd\n")
    assert done.stderr.startswith("emu: this host refuses user namespaces (")
    assert done.stderr.count("\n") == 1
    refused = run("--bind", "/tmp:/mnt", laid, "id", before=before)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--bind needs them" in refused.stderr


def test_the_terminal_s_keys_are_the_command_s(root: Path) -> None:
    terminal = Terminal([*SHELL, "-E", "PS1=in> ", str(root)])
    try:
        terminal.expect("in> ")
        terminal.send("sh -c 'echo begun; exec cat'\n")
        terminal.expect("\nbegun\r\n")
        terminal.send("\x1a")
        terminal.expect("Stopped")
        terminal.expect("in> ")
        terminal.send("fg\n")
        terminal.expect("exec cat")  # busybox keeps for itself what is typed too early
        terminal.send("more\n")
        terminal.expect("more\r\nmore\r\n")
        terminal.send("\x03")
        terminal.expect("in> ")
        terminal.send("echo $?; exit 7\n")
        terminal.expect("\n130\r\n")
        assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 7
    finally:
        os.close(terminal.fd)


def test_nobody_inside_types_into_the_caller_s_terminal(root: Path) -> None:
    """As the host's kernel lets any program do (dev.tty.legacy_tiocsti), native ones in the root too."""
    for isa in ("aarch64", "x86_64"):
        if isa == "aarch64" or os.uname().machine == isa:
            shutil.copy(build("type", isa), root / "bin/type")
            terminal = Terminal([*SHELL, str(root), "sh", "-c", "type=/bin/type; exec $type"])
            terminal.expect("refused: Operation not permitted")
            os.waitpid(terminal.pid, 0)
            os.close(terminal.fd)


def test_a_host_s_shell_stops_the_command_and_goes_on_with_it(root: Path) -> None:
    """bash, between us and the terminal: Ctrl-Z, fg, and a shell that stops itself."""
    terminal = Terminal(["/bin/bash", "--norc", "-i"])
    try:
        terminal.send("PS1='out> '; stty -echo; echo be''gun\n")
        terminal.expect("begun")
        terminal.expect("out> ")
        terminal.send(f"{' '.join(SHELL)} {root} sh -c 'echo ready; exec cat'\n")
        terminal.expect("ready")
        terminal.send("\x1a")
        terminal.expect("Stopped")
        terminal.expect("out> ")
        terminal.send("fg\n")
        terminal.expect("exec cat")
        terminal.send("word\n")
        terminal.expect("word\r\n")
        terminal.send("\x04")
        terminal.expect("out> ")
        terminal.send(f"{' '.join(SHELL)} {root} sh -c 'kill -STOP $$; exit 8'\n")
        terminal.expect("Stopped")
        terminal.expect("out> ")
        terminal.send("fg >/dev/null; echo status $?\n")
        terminal.expect("status 8\r\n")
        terminal.send("exit\n")
    finally:
        os.close(terminal.fd)
    os.waitpid(terminal.pid, 0)


WRONG = [
    (["missing"], 2, "missing is not there; give the root of a foreign system, or debian-arm64"),
    (["README.md"], 126, "README.md is neither a folder nor an archive of one"),
    (["{empty}"], 2, "{empty} has no /bin/sh; give the root of a whole system, or name a command of it"),
    (["{empty}", "tool"], 127, "tool: No such file or directory; check the path, it begins in the root"),
    (
        ["{other}"],
        126,
        "{other}: its /bin/sh is for none of aarch64, arm, riscv64, x86_64; give a root for one of",
    ),
    (["{root}", "tool"], 127, "tool: No such file or directory; check the path"),
    (["{root}", "/etc/passwd"], 126, "/etc/passwd: permission denied: it is not executable"),
    (["--workdir", "/none", "{root}", "id"], 2, "--workdir /none: No such file or directory; name a folder"),
    (["--user", "you", "{root}", "id"], 2, "the root has no user 'you'; its /etc/passwd has them"),
    (["--user", "me:you", "{root}", "id"], 2, "the root has no group 'you'; its /etc/group has them"),
    (["--bind", "/nowhere:/mnt", "{root}", "id"], 2, "--bind /nowhere:/mnt: /nowhere is not there"),
    (
        ["--bind", "/tmp:mnt", "{root}", "id"],
        2,
        "--bind /tmp:mnt: mnt is no path of the root; begin it with /",
    ),
    (["--bind", "/tmp:/mnt:x", "{root}", "id"], 2, "--bind /tmp:/mnt:x: write SRC, SRC:DST or SRC:DST:ro"),
    (["-E", "=x", "{root}", "id"], 2, "-E =x names no variable; write -E VAR=VALUE"),
    (["--accel", "kvm", "{root}", "id"], 2, "kvm runs only guests of the host's own architecture"),
    (["--engine", "none", "{root}", "id"], 2, "no engine is called 'none'"),
]


@pytest.mark.parametrize(("words", "status", "text"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_is_told_in_a_line(words, status, text, root: Path, tmp_path: Path) -> None:
    (tmp_path / "other/bin").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    mips = b"\x7fELF\x01\x02\x01" + bytes(9) + b"\0\x02\0\x08" + bytes(40)
    (tmp_path / "other/bin/sh").write_bytes(mips)
    places = {"root": root, "empty": tmp_path / "empty", "other": tmp_path / "other"}
    done = run(*(word.format(**places) for word in words))
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(f"emu: {text.format(**places)}"), done.stderr
    assert done.stderr.count("\n") == 1
