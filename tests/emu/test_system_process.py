"""emu-system-* as a process: daemons, files of its number, inherited descriptors, and what libvirt says.

The command lines and commands are those that libvirt 9.0 has been seen to use.
"""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.emu.linux_guest import image, initrd
from tests.emu.steered import Client
from tests.emu.system import program, run, start

PROBE = ("-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg", "-daemonize")
# What libvirt asks every emulator, in this order; device types but for the first few are left out.
ASKED = [
    *("query-version", "query-target", "query-qmp-schema", "query-commands", "query-kvm", "qom-list-types"),
    *(
        ("device-list-properties", {"typename": name})
        for name in (
            "virtio-blk-pci",
            "virtio-net-pci",
            "scsi-hd",
            "virtio-balloon-pci",
            "pcie-root-port",
            "usb-host",
        )
    ),
    ("qom-list-properties", {"typename": "memory-backend-file"}),
    ("qom-list-properties", {"typename": "memory-backend-memfd"}),
    "query-machines",
    ("qom-list-properties", {"typename": "none-machine"}),
    *(
        "query-cpu-definitions",
        "query-tpm-models",
        "query-command-line-options",
        "query-migrate-capabilities",
    ),
    ("query-cpu-model-expansion", {"type": "full", "model": {"name": "host"}}),
]
# Where an error is no harm; elsewhere libvirt refuses the emulator, or ends itself.
MAY_FAIL = ("device-list-properties", "query-cpu-model-expansion")


def gone(pid, seconds=20):
    """Whether a process ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def probed(tmp_path, request):
    """An emulator that was started as libvirt does to ask it: a client, and the process's number."""
    arch = getattr(request, "param", "aarch64")
    done = run(
        *PROBE, "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off", "-pidfile", tmp_path / "pid", arch=arch
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int((tmp_path / "pid").read_text())
    client = Client(tmp_path / "qmp")
    yield client, pid
    client.close()
    if not gone(pid, 0.1):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("probed", ["aarch64", "x86_64"], indirect=True)
def test_what_libvirt_asks_is_answered(probed):
    client, _ = probed
    told = {}
    for asked in ASKED:
        name, arguments = (asked, {}) if isinstance(asked, str) else asked
        answer = client.command(name, **arguments)
        assert "return" in answer or name in MAY_FAIL, answer
        if "error" in answer and name == "device-list-properties":
            assert answer["error"]["class"] == "DeviceNotFound"
        told[name] = answer.get("return")
    version = told["query-version"]["qemu"]
    assert (version["major"], version["minor"]) >= (4, 2)
    names = {each["name"] for each in told["qom-list-types"]}
    for board in told["query-machines"]:
        assert {"name", "cpu-max", "hotpluggable-cpus"} <= set(board)
        assert client.ask("qom-list-properties", typename=f"{board['name']}-machine")
    assert all("name" in each for each in told["query-cpu-definitions"])
    assert "tcg-accel" in names
    commands = {entry["name"]: entry for entry in told["query-qmp-schema"] if entry["meta-type"] == "command"}
    assert set(commands) == {each["name"] for each in told["query-commands"]}
    if told["query-target"]["arch"] == "aarch64":
        # What makes libvirt give an Arm domain a PCI Express bus.
        assert {
            "gpex-pcihost",
            "pcie-root-port",
            "virtio-blk-pci-non-transitional",
            "pl011",
            "virtio-mmio",
        } <= names
        assert [each.get("alias") for each in told["query-machines"] if each["name"] == "virt-7.2"] == [
            "virt"
        ]


def test_a_daemon_has_let_go_of_who_started_it(probed):
    _, pid = probed
    for fd in (0, 1, 2):
        assert str(Path(f"/proc/{pid}/fd/{fd}").readlink()) == "/dev/null"
    assert os.getsid(pid) == pid
    assert str(Path(f"/proc/{pid}/cwd").readlink()) == "/"


def test_a_signal_ends_a_daemon_and_its_files(probed, tmp_path):
    client, pid = probed
    os.kill(pid, signal.SIGTERM)
    assert client.event("SHUTDOWN") == {"guest": False, "reason": "host-signal"}
    assert gone(pid)
    assert not (tmp_path / "pid").exists()
    assert not (tmp_path / "qmp").exists()


def test_a_daemon_that_cannot_begin_says_so_to_who_started_it(tmp_path):
    done = run(*PROBE, "-qmp", f"unix:{tmp_path}/no/such/folder,server=on,wait=off")
    assert done.returncode != 0
    assert re.fullmatch("emu-system-aarch64: .*cannot listen there.*\n", done.stderr)
    done = run(*PROBE, "-pidfile", tmp_path / "no" / "pid")
    assert "-pidfile" in done.stderr
    assert done.returncode != 0


def test_a_pidfile_of_a_running_process_is_not_taken(tmp_path):
    with (tmp_path / "pid").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        done = run(*PROBE, "-pidfile", tmp_path / "pid")
    assert "a running process has it" in done.stderr
    assert done.returncode != 0


@pytest.fixture
def domain(tmp_path):
    """A machine as libvirt starts it, monitor and serial line at inherited descriptors; paused."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "monitor.sock"))
    listener.listen(1)
    ours, line = socket.socketpair()
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "kernel").write_bytes(image())
    script = "cat /sys/block/vda/size; while sleep 0.2; do :; done"
    (tmp_path / "initrd").write_bytes(initrd(script, MODULES))
    fds = [listener.fileno(), line.fileno()]
    secret = {"qom-type": "secret", "id": "masterKey0", "format": "raw", "file": str(tmp_path / "key")}
    secret = json.dumps(secret)
    port = {
        "driver": "pcie-root-port",
        "port": 8,
        "chassis": 1,
        "id": "pci.1",
        "bus": "pcie.0",
        "addr": "0x1",
    }
    second = {**port, "port": 9, "chassis": 2, "id": "pci.2", "addr": "0x1.0x1"}
    ports = ["-device", json.dumps({**port, "multifunction": True}), "-device", json.dumps(second)]
    storage = {"driver": "file", "filename": str(tmp_path / "disk.raw"), "node-name": "libvirt-1-storage"}
    storage |= {"auto-read-only": True, "discard": "unmap"}
    format = {
        "node-name": "libvirt-1-format",
        "read-only": False,
        "driver": "raw",
        "file": "libvirt-1-storage",
    }
    drive = {"driver": "virtio-blk-pci", "bus": "pci.1", "addr": "0x0", "drive": "libvirt-1-format"}
    drive |= {"id": "virtio-disk0", "bootindex": 1}
    disk = ["-blockdev", json.dumps(storage), "-blockdev", json.dumps(format), "-device", json.dumps(drive)]
    process = start(
        "-name", "guest=d,debug-threads=on", "-S",
        "-object", secret,
        "-machine", "virt-7.2,usb=off,gic-version=2,dump-guest-core=off,memory-backend=mach-virt.ram",
        "-accel", "tcg", "-cpu", "cortex-a57", "-m", "256",
        "-object", '{"qom-type":"memory-backend-ram","id":"mach-virt.ram","size":268435456}',
        "-overcommit", "mem-lock=off", "-smp", "1,sockets=1,cores=1,threads=1",
        "-uuid", "ff9e1ef6-19f1-4085-98a4-f3d7b7b6f785", "-display", "none", "-no-user-config", "-nodefaults",
        "-chardev", f"socket,id=charmonitor,fd={fds[0]},server=on,wait=off",
        "-mon", "chardev=charmonitor,id=monitor,mode=control", "-rtc", "base=utc", "-no-shutdown", "-no-acpi",
        "-boot", "strict=on", "-kernel", tmp_path / "kernel", "-initrd", tmp_path / "initrd",
        "-append", "console=ttyAMA0 quiet",
        *ports, *disk,
        "-chardev", f"socket,id=charserial0,fd={fds[1]}", "-serial", "chardev:charserial0",
        "-audiodev", '{"id":"audio1","driver":"none"}',
        "-device", '{"driver":"virtio-balloon-pci","id":"balloon0","bus":"pci.2","addr":"0x0"}',
        "-msg", "timestamp=on",
        pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    line.close()
    ours.settimeout(90)
    client = Client(tmp_path / "monitor.sock")
    yield process, client, ours
    process.kill()
    process.wait()
    process.stdout.close()
    client.close()
    ours.close()
    listener.close()


MODULES = ("virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk", "virtio_balloon")


def read_until(line, text):
    seen = b""
    while text not in seen:
        data = line.recv(4096)
        assert data, seen
        seen += data
    return seen


def test_a_domain_goes_the_way_that_libvirt_takes_it(domain):
    process, client, line = domain
    client.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    chardevs = {each["label"]: each for each in client.ask("query-chardev")}
    assert {"charmonitor", "charserial0"} <= set(chardevs)
    (cpu,) = client.ask("query-cpus-fast")
    assert cpu["thread-id"] != process.pid
    assert cpu["target"] == "aarch64"
    assert client.ask("query-status")["status"] == "prelaunch"
    there = {each["name"]: each["type"] for each in client.ask("qom-list", path="/machine/peripheral")}
    assert there["balloon0"] == "child<virtio-balloon-pci>"
    assert there["pci.1"] == "child<pcie-root-port>"
    balloon = "/machine/peripheral/balloon0"
    names = [each["name"] for each in client.ask("qom-list", path=balloon)]
    assert "guest-stats-polling-interval" in names
    client.ask("qom-set", path=balloon, property="guest-stats-polling-interval", value=1)
    client.ask("balloon", value=256 << 20)
    assert client.ask("query-balloon") == {"actual": 256 << 20}
    nodes = {each["node-name"] for each in client.ask("query-named-block-nodes", flat=True)}
    assert nodes == {"libvirt-1-format", "libvirt-1-storage"}
    (disk,) = client.ask("query-block")
    assert disk["qdev"] == "/machine/peripheral/virtio-disk0/virtio-backend"
    assert disk["inserted"]["node-name"] == "libvirt-1-format"
    assert client.ask("query-uuid") == {"UUID": "ff9e1ef6-19f1-4085-98a4-f3d7b7b6f785"}
    client.events.clear()
    client.ask("cont")
    assert client.events == ["RESUME"]
    assert b"2048" in read_until(line, b"2048")
    (stats,) = client.ask("query-blockstats")
    assert stats["stats"]["rd_operations"] > 0
    process.terminate()
    assert client.event("SHUTDOWN") == {"guest": False, "reason": "host-signal"}
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == b""


def test_a_machine_waits_for_its_state(tmp_path):
    path = tmp_path / "qmp"
    words = ("-M", "virt", "-nodefaults", "-display", "none", "-incoming", "defer")
    with start(*words, "-qmp", f"unix:{path},server=on,wait=off") as process:
        while not path.exists():
            time.sleep(0.02)
        client = Client(path)
        assert client.ask("query-status")["status"] == "inmigrate"
        client.ask("quit")
        client.close()
        assert process.wait(20) == 0


def test_the_terminal_is_a_line_and_a_monitor(terminal, tmp_path):
    """As people type it, so with a network card: Ctrl-A C is the monitor, Ctrl-A X the end."""
    (tmp_path / "kernel").write_bytes(image())
    (tmp_path / "initrd").write_bytes(
        initrd("ls /sys/bus/pci/devices; read line; echo GOT $line; read line", ())
    )
    one = terminal(
        *("-M", "virt", "-cpu", "cortex-a57", "-m", "256", "-nographic", "-kernel", str(tmp_path / "kernel")),
        *("-initrd", str(tmp_path / "initrd"), "-append", "console=ttyAMA0 quiet"),
        program=program(), command=(),
    )  # fmt: skip
    one.wait_for(b"0000:00:01.0")
    os.write(one.master, b"\x01c")
    one.wait_for(b"(emu) ")
    os.write(one.master, b"info network\r")
    told = one.wait_for(b"(emu) ")
    assert b"52:54:00:12:34:56" in told
    assert b"user" in told
    os.write(one.master, b"\x01chello\r")
    one.wait_for(b"GOT hello")
    os.write(one.master, b"\x01x")
    assert one.ended() == 0


def test_a_guest_has_its_items_and_its_time_and_writes_into_a_file_that_was_passed(tmp_path):
    """-fw_cfg and -rtc; -add-fd as libvirt hands on the file of a serial line's log."""
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, b"before\n")
    (tmp_path / "kernel").write_bytes(image())
    script = "date -u +YEAR%Y; cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.example/raw; echo"
    (tmp_path / "initrd").write_bytes(initrd(script, ("qemu_fw_cfg", "rtc-pl031")))
    done = run(
        "-M", "virt", "-m", "256", "-nodefaults", "-display", "none", "-add-fd", f"fd={log},set=3",
        "-chardev", "file,id=c,path=/dev/fdset/3,append=on", "-serial", "chardev:c",
        "-rtc", "base=2031-05-06",
        "-fw_cfg", "name=opt/org.example,string=an item",
        "-kernel", tmp_path / "kernel", "-initrd", tmp_path / "initrd", "-append", "console=ttyAMA0 quiet",
        pass_fds=[log], timeout=120,
    )  # fmt: skip
    os.close(log)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "log").read_text()
    assert text.startswith("before\n")
    assert "YEAR2031" in text
    assert "an item" in text


def test_a_machine_waits_for_who_is_to_be_at_its_line(tmp_path):
    """-serial unix:PATH,server without nowait; and telnet, whose own bytes the guest does not get."""
    path, monitor = tmp_path / "line", tmp_path / "qmp"
    words = ("-M", "virt", "-m", "64", "-nodefaults", "-display", "none", "-serial", f"unix:{path},server")
    with start(*words, "-qmp", f"unix:{monitor},server=on,wait=off") as process:
        while not monitor.exists():
            time.sleep(0.02)
        client = Client(monitor)
        assert client.ask("query-status")["status"] == "prelaunch"
        (line,) = [each for each in client.ask("query-chardev") if each["label"] == "serial0"]
        assert line["filename"] == f"disconnected:unix:{path},server=on"
        with socket.socket(socket.AF_UNIX) as mine:
            mine.connect(str(path))
            client.event("RESUME")
            assert client.ask("query-status")["status"] == "running"
        client.ask("quit")
        client.close()
        assert process.wait(20) == 0
