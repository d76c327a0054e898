"""-sandbox: the kernel ends whoever asks for what is denied, and a machine runs under it to its end."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from accel.errors import EmuError
from emu.system.sandbox import Sandbox
from tests.emu.steered import SPINNING, Client
from tests.emu.system import start

ALL = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"  # libvirt's
CONFINED = """
import ctypes, os, sys, threading
from emu.system.sandbox import Sandbox
libc = ctypes.CDLL(None, use_errno=True)
go, told = threading.Event(), threading.Event()
def early():
    go.wait()
    exec(sys.argv[2])
    told.set()
thread = threading.Thread(target=early, daemon=True)
thread.start()
Sandbox.parse(sys.argv[1]).install()
go.set()
told.wait(5)
print("alive" if told.is_set() else "failed")
"""
THREAD = "t = threading.Thread(target=print); t.start(); t.join()"
CHILD = "assert os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)[1] == 0"
REFUSED = "assert libc.setpriority(0, 0, 1) == -1; assert ctypes.get_errno() == 1"
USELIB, X32_GETPID, REBOOT = (f"libc.syscall(ctypes.c_long({n}), 0, 0, 0)" for n in (134, 0x4000_0027, 169))


@pytest.mark.skipif(
    sys.platform != "linux" or not Path("/proc/self/status").exists(), reason="Linux's filters"
)
@pytest.mark.parametrize(
    ("words", "doing", "lives"),
    [
        ("on", CHILD, True),
        ("on,spawn=deny", CHILD, False),
        ("on,spawn=deny", "os.fork()", False),
        ("on,spawn=deny", "os.execv('/bin/true', ['true'])", False),
        ("on,spawn=deny", THREAD, True),
        ("on", "os.setuid(os.getuid())", True),
        ("on,elevateprivileges=children", "os.setuid(os.getuid())", True),
        ("on,elevateprivileges=deny", "os.setuid(os.getuid())", False),
        ("on", "os.sched_setaffinity(0, os.sched_getaffinity(0))", True),
        ("on,resourcecontrol=deny", REFUSED, True),
        ("on", USELIB, False),
        ("on,obsolete=allow", USELIB, True),
        ("on", X32_GETPID, False),
        ("on,obsolete=allow", REBOOT, False),
    ],
)
def test_a_call_is_made_or_ends_the_process_as_the_words_say(words, doing, lives):
    """By a thread that was there before the filter."""
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, words, doing],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (0 if lives else -signal.SIGSYS), done.stderr
    assert not lives or "alive" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("maybe", "use on or off"),
        ("on,spawn=perhaps", "spawn=perhaps; it may be allow, deny"),
        ("on,spawn=children", "it may be allow, deny"),
        ("on,network=deny", "network is not supported"),
    ],
)
def test_words_that_mean_nothing_are_named(words, cause):
    with pytest.raises(EmuError, match=cause):
        Sandbox.parse(words)


def test_off_confines_nothing():
    assert Sandbox.parse("off") is None
    assert Sandbox.parse("off,spawn=deny") is None


def test_a_machine_runs_confined_to_its_end(tmp_path):
    (tmp_path / "guest").write_bytes(SPINNING)
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    words = ["-M", "virt", "-m", "32", "-nodefaults", "-display", "none", "-kernel", tmp_path / "guest"]
    words += ["-sandbox", ALL, "-qmp", f"unix:{tmp_path}/qmp,server=on", "-netdev", "user,id=n", "-S"]
    words += ["-device", "virtio-net-pci,netdev=n", "-drive", f"file={tmp_path}/disk,format=raw,if=virtio"]
    with start(*words) as machine:
        try:
            wait_for(tmp_path / "qmp", machine)
            client = Client(tmp_path / "qmp")
            client.ask("cont")
            states = [
                line.split()[1]
                for path in Path(f"/proc/{machine.pid}/task").glob("*/status")
                for line in path.read_text().splitlines()
                if line.startswith("Seccomp:")
            ]
            assert len(states) > 1
            assert set(states) == {"2"}, "a thread is not confined"
            assert "spawn=deny" in client.error("migrate", uri="exec:cat > /dev/null")
            client.ask("chardev-add", id="late", backend={"type": "pty"})
            client.ask("netdev_add", type="user", id="other")
            client.ask("stop")
            client.ask("migrate", uri=f"file:{tmp_path}/saved")
            while (told := client.ask("query-migrate"))["status"] != "completed":
                assert told["status"] in ("setup", "active"), told
            client.ask("cont")
            client.ask("quit")
            client.close()
            assert machine.wait(60) == 0
        finally:
            machine.kill()
    assert (tmp_path / "saved").stat().st_size > 0


def wait_for(path, process):
    import time

    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)
