"""A real libvirtd drives our guests: each verb of virsh, with Debian's kernel; virt-install makes one."""

import json
import os
import re
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from emu.samples.debian import cache
from tests.emu.libvirt import Libvirtd, skip_without
from tests.emu.linux_guest import image, initrd
from tests.emu.steered import SPINNING
from tests.emu.system import program
from tests.emu.terminal import Terminal

ROOT = Path(__file__).parent.parent.parent
DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
  <os><type arch='aarch64' machine='virt'>hvm</type>
    <kernel>{folder}/kernel</kernel><initrd>{folder}/initrd</initrd><cmdline>console=ttyAMA0 quiet</cmdline>
  </os>
  <cpu mode='custom' match='exact'><model fallback='allow'>cortex-a57</model></cpu>
  <devices><emulator>{emulator}</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='{folder}/disk.qcow2'/><target dev='vda' bus='virtio'/>{address}</disk>
    <controller type='usb' model='none'/>
    <interface type='user'><model type='virtio'/>{address}</interface>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend>{address}</rng>
    <serial type='pty'/><console type='pty'/>
    <memballoon model='virtio'><stats period='1'/>{address}</memballoon>
  </devices></domain>
"""
STATISTICS = {
    *("actual", "swap_in", "swap_out", "major_fault", "minor_fault", "unused", "available", "usable"),
    *("last_update", "disk_caches", "hugetlb_pgalloc", "hugetlb_pgfail", "rss"),
}
PROMPT = b"root@emu:"


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """A folder with a kernel, an initial RAM disk with a shell, and a disk."""
    import emu.block

    skip_without()
    folder = tmp_path_factory.mktemp("guest")
    (folder / "kernel").write_bytes(image())
    (folder / "initrd").write_bytes(initrd(None, None))
    emu.block.create(folder / "disk.qcow2", 64 << 20)
    return folder


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory):
    skip_without()
    made = Libvirtd(tmp_path_factory.mktemp("libvirt"))
    yield made
    made.close()


def define(libvirtd, guest, name, address="", ports=0):
    """Makes a domain; ports: how many it has besides those that it needs."""
    path = libvirtd.folder / f"{name}.xml"
    text = DOMAIN.format(name=name, folder=guest, emulator=program(), address=address)
    if ports:
        needed = 4
        more = "<controller type='pci' index='0' model='pcie-root'/>"
        more += "<controller type='pci' model='pcie-root-port'/>" * (needed + ports)
        text = text.replace("<devices>", f"<devices>{more}")
    path.write_text(text)
    libvirtd.virsh("define", path)
    return name


def console(libvirtd, name):
    return Terminal("-c", libvirtd.uri, "console", name, "--force", program="virsh", command=())


def statistics(libvirtd, name):
    return {key: int(value) for key, value in map(str.split, libvirtd.ask("dommemstat", name).splitlines())}


def until(condition, seconds=60):
    """Waits until a condition holds; returns what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


def test_every_verb(libvirtd, guest):
    ask, name = libvirtd.ask, define(libvirtd, guest, "every")
    tree = ElementTree.fromstring(ask("dumpxml", name))
    assert tree.find("os/type").get("machine") == "virt-7.2"
    assert {each.get("model") for each in tree.iterfind("devices/controller[@type='pci']")} == {
        *("pcie-root", "pcie-root-port"),
    }
    libvirtd.virsh("start", name)
    assert ask("domstate", name, "--reason") == "running (booted)"
    screen = console(libvirtd, name)
    screen.wait_for(PROMPT, 120)

    info = dict(re.findall(r"(.+?): +(.*)", ask("dominfo", name)))
    assert (info["State"], info["Max memory"], info["CPU(s)"]) == ("running", "262144 KiB", "1")
    assert "running" in ask("vcpuinfo", name)
    assert "virtio" in ask("domiflist", name)

    # Memory, as the guest tells it and as the host sees it.
    until(lambda: statistics(libvirtd, name)["last_update"])
    first = statistics(libvirtd, name)
    assert set(first) == STATISTICS
    screen.type(b"head -c 64m /dev/zero > /tmp/x; wc -c /tmp/x\r")
    screen.wait_for(b"67108864 /tmp/x", 180)
    full = until(lambda: (now := statistics(libvirtd, name))["unused"] < first["unused"] - 60_000 and now)
    assert full["rss"] > first["rss"] + 30_000
    assert full["disk_caches"] > first["disk_caches"] + 60_000
    screen.type(b"rm /tmp/x\r")
    libvirtd.virsh("setmem", name, "160M", "--live")
    until(lambda: statistics(libvirtd, name)["actual"] == 160 << 10)
    small = until(
        lambda: (now := statistics(libvirtd, name))["available"] < first["available"] - 90_000 and now
    )
    assert small["rss"] < full["rss"] - 40_000
    libvirtd.virsh("setmem", name, "256M", "--live")
    until(lambda: statistics(libvirtd, name)["actual"] == 256 << 10)

    screen.type(b"dd if=/dev/urandom of=/dev/vda bs=64k count=80 conv=fsync; wc -c /dev/vda\r")
    screen.wait_for(b"67108864 /dev/vda", 180)
    done = dict(re.findall(r"vda (\w+) (\d+)", ask("domblkstat", name, "vda")))
    assert int(done["wr_bytes"]) >= 5 << 20
    assert int(done["rd_bytes"]) >= 64 << 20
    assert int(done["flush_operations"]) > 0
    assert "Capacity:       67108864" in ask("domblkinfo", name, "vda")

    libvirtd.virsh("suspend", name)
    assert ask("domstate", name, "--reason") == "paused (user)"
    told = json.loads(ask("qemu-monitor-command", name, '{"execute":"query-status"}'))
    assert told["return"]["status"] == "paused"
    libvirtd.virsh("resume", name)
    assert ask("domstate", name, "--reason") == "running (unpaused)"
    core = libvirtd.folder / "core"
    libvirtd.virsh("dump", name, core, "--memory-only")
    assert core.read_bytes()[:4] == b"\x7fELF"
    assert core.stat().st_size > 256 << 20
    core.unlink()
    assert ask("domstate", name) == "running"
    assert "VM status: running" in ask("qemu-monitor-command", name, "--hmp", "info status")
    pretty = ask("qemu-monitor-command", name, "--pretty", '{"execute":"query-cpus-fast"}')
    assert pretty.startswith('{\n  "return": [\n')

    # A new libvirtd finds what runs, confined as it wants its emulators.
    pid = (libvirtd.folder / f"run/qemu/{name}.pid").read_text()
    assert "Seccomp:\t2\n" in Path(f"/proc/{pid.strip()}/status").read_text()
    libvirtd.virsh("autostart", name)
    libvirtd.stop()
    libvirtd.start()
    assert ask("list", "--name", "--autostart") == name
    assert ask("domstate", name) == "running"
    assert (libvirtd.folder / f"run/qemu/{name}.pid").read_text() == pid
    assert statistics(libvirtd, name)["actual"] == 256 << 10
    screen.close()

    # Reset at once; reboot by the guest's own will; and its end.
    screen = console(libvirtd, name)
    libvirtd.virsh("reset", name)
    screen.wait_for(PROMPT, 120)
    libvirtd.virsh("reboot", name)
    screen.wait_for(b"Power down", 60)
    screen.wait_for(PROMPT, 120)
    libvirtd.virsh("shutdown", name)
    libvirtd.wait("shut off (shutdown)", "domstate", name, "--reason")
    screen.close()

    libvirtd.virsh("start", name)
    libvirtd.virsh("destroy", name)
    assert ask("domstate", name, "--reason") == "shut off (destroyed)"
    libvirtd.virsh("undefine", name)
    assert ask("list", "--all", "--name") == ""


def saved_and_restored(libvirtd, name, screen):
    """Puts a running domain into a file and back; what its shell knew it still knows.  Its new console."""
    screen.type(b"kept=$((6 * 7000))\r")
    screen.wait_for(PROMPT)
    file = libvirtd.folder / f"{name}.saved"
    libvirtd.virsh("save", name, file)
    screen.close()
    assert libvirtd.ask("domstate", name, "--reason") == "shut off (saved)"
    libvirtd.virsh("restore", file)
    assert libvirtd.ask("domstate", name, "--reason") == "running (restored)"
    screen = console(libvirtd, name)
    until(screen.raw)  # what was typed before that virsh drops
    screen.type(b"echo kept $kept; wc -c /dev/vda\r")
    screen.wait_for(b"kept 42000", 60)
    screen.wait_for(b"67108864 /dev/vda", 180)
    screen.wait_for(PROMPT)
    until(lambda: statistics(libvirtd, name).get("last_update"))
    return screen


def test_a_domain_is_saved_and_restored(libvirtd, guest):
    name = define(libvirtd, guest, "saved")
    libvirtd.virsh("start", name)
    screen = console(libvirtd, name)
    screen.wait_for(PROMPT, 120)
    screen = saved_and_restored(libvirtd, name, screen)
    screen.type(b"poweroff\r")
    libvirtd.wait("shut off (shutdown)", "domstate", name, "--reason")
    libvirtd.virsh("undefine", name)
    screen.close()


BACKUP = """\
<domainbackup mode='push'><disks>
<disk name='vda' type='file'><target file='{file}'/><driver type='qcow2'/></disk></disks>
</domainbackup>
"""


def test_a_disk_is_kept_copied_and_backed_up(libvirtd, tmp_path):
    """snapshot-create-as --disk-only, blockcopy to both ends, backup-begin; the guest only spins."""
    import emu.block

    (tmp_path / "kernel").write_bytes(SPINNING)
    (tmp_path / "initrd").write_bytes(bytes(512))
    emu.block.create(tmp_path / "disk.qcow2", 16 << 20)
    with emu.block.open(tmp_path / "disk.qcow2") as disk:
        disk.write(1 << 20, os.urandom(3 << 20))
        content = disk.read(0, disk.size)
    name = define(libvirtd, tmp_path, "copied")
    libvirtd.virsh("start", name)
    over, whole, aside, backup = (tmp_path / name for name in ("over", "whole", "aside", "backup"))
    libvirtd.virsh(
        "snapshot-create-as", name, "s", "--disk-only", "--no-metadata", "--diskspec", f"vda,file={over}"
    )
    assert str(over) in libvirtd.ask("domblklist", name)
    words = ("--transient-job", "--wait", "--timeout", "60")
    libvirtd.virsh("blockcopy", name, "vda", whole, "--format", "qcow2", *words, "--pivot")
    assert str(whole) in libvirtd.ask("domblklist", name)
    libvirtd.virsh("blockcopy", name, "vda", aside, "--format", "raw", *words, "--finish")
    assert str(whole) in libvirtd.ask("domblklist", name)
    (tmp_path / "backup.xml").write_text(BACKUP.format(file=backup))
    libvirtd.virsh("backup-begin", name, tmp_path / "backup.xml")
    libvirtd.wait("Completed", "domjobinfo", name, "--completed")
    libvirtd.virsh("destroy", name)
    libvirtd.virsh("undefine", name)
    for file, kind in ((over, "qcow2"), (whole, "qcow2"), (aside, "raw"), (backup, "qcow2")):
        with emu.block.open(file, format=kind) as disk:
            assert disk.read(0, disk.size) == content, file


INTERFACE = "<interface type='user'><mac address='52:54:00:00:00:88'/><model type='virtio'/></interface>"


def test_a_disk_and_a_card_come_and_go(libvirtd, guest, tmp_path):
    import emu.block

    name = define(libvirtd, guest, "hot", ports=2)
    emu.block.create(tmp_path / "late.qcow2", 8 << 20)
    (tmp_path / "card.xml").write_text(INTERFACE)
    libvirtd.virsh("start", name)
    screen = console(libvirtd, name)
    screen.wait_for(PROMPT, 120)

    late = tmp_path / "late.qcow2"
    libvirtd.virsh("attach-disk", name, late, "vdb", "--driver", "qemu", "--subdriver", "qcow2", "--live")
    libvirtd.virsh("attach-device", name, tmp_path / "card.xml", "--live")
    screen.type(
        b"until [ -b /dev/vdb -a -d /sys/class/net/eth1 ]; do usleep 50000; done; cat /sys/block/vdb/size\r"
    )
    screen.wait_for(b"16384")
    screen.type(b"echo written | dd of=/dev/vdb conv=fsync; cat /sys/class/net/eth1/address\r")
    screen.wait_for(b"52:54:00:00:00:88")
    assert "vdb" in libvirtd.ask("domblklist", name)

    libvirtd.virsh("detach-disk", name, "vdb", "--live")
    libvirtd.virsh("detach-device", name, tmp_path / "card.xml", "--live")
    until(lambda: "vdb" not in libvirtd.ask("domblklist", name))
    until(lambda: "52:54:00:00:00:88" not in libvirtd.ask("domiflist", name))
    screen.type(b"ls /sys/block /sys/class/net | grep -c -e vdb -e eth1 | sed 's/^/left /'\r")
    screen.wait_for(b"left 0")
    nodes = libvirtd.ask("qemu-monitor-command", name, '{"execute":"query-named-block-nodes"}')
    assert "late.qcow2" not in nodes
    with emu.block.open(late) as disk:
        assert disk.read(0, 7) == b"written"
    libvirtd.virsh("destroy", name)
    libvirtd.virsh("undefine", name)
    screen.close()


def test_devices_by_mmio(libvirtd, guest):
    """As domains have them that say so: no PCI at all.  A balloon's statistics libvirt reads by PCI alone."""
    name = define(libvirtd, guest, "mmio", "<address type='virtio-mmio'/>")
    libvirtd.virsh("start", name)
    screen = console(libvirtd, name)
    screen.wait_for(PROMPT, 120)
    screen.type(b"cat /sys/block/vda/size; ls /sys/bus/virtio/drivers/virtio_net | grep -c virtio\r")
    screen.wait_for(b"131072")
    libvirtd.virsh("setmem", name, "200M", "--live")
    until(lambda: statistics(libvirtd, name)["actual"] == 200 << 10)
    assert int(re.search(r"rd_req (\d+)", libvirtd.ask("domblkstat", name, "vda"))[1]) > 0
    libvirtd.virsh("destroy", name)
    libvirtd.virsh("undefine", name)
    screen.close()


@pytest.fixture(scope="module")
def pc_guest(tmp_path_factory):
    """As guest(), for x86-64."""
    import emu.block

    skip_without()
    folder = tmp_path_factory.mktemp("pc")
    (folder / "kernel").write_bytes(image("amd64"))
    (folder / "initrd").write_bytes(initrd(None, None, "amd64"))
    emu.block.create(folder / "disk.qcow2", 64 << 20)
    return folder


def start_pc(libvirtd, folder, machine, address=""):
    """Defines and starts a domain of that machine's name; its console, at the shell."""
    text = DOMAIN.format(name=machine, folder=folder, emulator=program("x86_64"), address=address)
    for arm, pc in (
        ("arch='aarch64' machine='virt'", f"arch='x86_64' machine='{machine}'"),
        ("</os>", "</os><features><acpi/></features>"),
        ("ttyAMA0", "ttyS0"),
        (
            "<controller type='usb'",
            f"<controller type='virtio-serial'>{address}</controller><controller type='usb'",
        ),
        ("<cpu mode='custom' match='exact'><model fallback='allow'>cortex-a57</model></cpu>", ""),
    ):
        assert arm in text
        text = text.replace(arm, pc)
    path = libvirtd.folder / f"{machine}.xml"
    path.write_text(text)
    libvirtd.virsh("define", path)
    libvirtd.virsh("start", machine)
    screen = console(libvirtd, machine)
    screen.wait_for(PROMPT, 120)
    return screen


def test_a_pc_as_microvm(libvirtd, pc_guest):
    screen = start_pc(libvirtd, pc_guest, "microvm", "<address type='virtio-mmio'/>")
    screen.type(b"uname -m; cat /sys/block/vda/size\r")
    screen.wait_for(b"x86_64")
    screen.wait_for(b"131072")
    libvirtd.virsh("suspend", "microvm")
    libvirtd.virsh("resume", "microvm")
    screen.type(b"poweroff -f\r")
    libvirtd.wait("shut off (shutdown)", "domstate", "microvm", "--reason")
    libvirtd.virsh("undefine", "microvm")
    screen.close()


CHANNEL = """\
<channel type='unix'>
  <source mode='bind' path='{path}'/><target type='virtio' name='org.example.late'/>
</channel>
"""


def test_a_pc_with_a_pci_bus(libvirtd, pc_guest, tmp_path):
    import emu.block

    screen = start_pc(libvirtd, pc_guest, "pc")
    tree = ElementTree.fromstring(libvirtd.ask("dumpxml", "pc"))
    assert tree.find("os/type").get("machine") == "pc-i440fx-7.2"
    assert tree.find("devices/controller[@type='pci']").get("model") == "pci-root"
    until(lambda: statistics(libvirtd, "pc").get("last_update"))
    first = statistics(libvirtd, "pc")
    assert set(first) >= STATISTICS - {"hugetlb_pgalloc", "hugetlb_pgfail"}
    libvirtd.virsh("setmem", "pc", "200M", "--live")
    until(lambda: statistics(libvirtd, "pc")["available"] < first["available"] - 50_000)
    screen.type(
        b"dd if=/dev/urandom of=/dev/vda bs=64k count=16 conv=fsync; ip -o -4 address show dev eth0\r"
    )
    screen.wait_for(b"10.0.2.15")
    done = dict(re.findall(r"vda (\w+) (\d+)", libvirtd.ask("domblkstat", "pc", "vda")))
    assert int(done["wr_bytes"]) >= 1 << 20
    screen.wait_for(PROMPT)

    # A disk and a channel come while it runs, are saved and restored with it, and go.
    late, channel = tmp_path / "late.qcow2", tmp_path / "channel.xml"
    emu.block.create(late, 8 << 20)
    channel.write_text(CHANNEL.format(path=tmp_path / "channel"))
    libvirtd.virsh("attach-disk", "pc", late, "vdb", "--driver", "qemu", "--subdriver", "qcow2", "--live")
    libvirtd.virsh("attach-device", "pc", channel, "--live")
    screen.type(b"until [ -b /dev/vdb -a -c /dev/vport*p1 ]; do usleep 50000; done\r")
    screen.type(b"echo written | dd of=/dev/vdb conv=fsync; cat /sys/class/virtio-ports/vport*p1/name\r")
    screen.wait_for(b"org.example.late")
    screen.wait_for(PROMPT)
    screen = saved_and_restored(libvirtd, "pc", screen)
    libvirtd.virsh("detach-device", "pc", channel, "--live")
    libvirtd.virsh("detach-disk", "pc", "vdb", "--live")
    until(lambda: "vdb" not in libvirtd.ask("domblklist", "pc"))
    screen.type(b"ls /sys/block /sys/class/virtio-ports | grep -c -e vdb -e vport | sed 's/^/left /'\r")
    screen.wait_for(b"left 0")
    screen.wait_for(PROMPT)
    with emu.block.open(late) as disk:
        assert disk.read(0, 7) == b"written"

    libvirtd.virsh("reset", "pc")
    screen.wait_for(PROMPT, 120)
    libvirtd.virsh("shutdown", "pc")
    libvirtd.wait("shut off (shutdown)", "domstate", "pc", "--reason")
    screen.close()
    libvirtd.virsh("start", "pc")
    libvirtd.virsh("destroy", "pc")
    libvirtd.virsh("undefine", "pc")


def test_the_installed_qemus_may_be_there_too(libvirtd):
    """What is probed besides does not disturb: QEMU's own is asked by its path."""
    qemu = shutil.which("qemu-system-aarch64")
    if qemu is None:
        pytest.skip("qemu-system-aarch64 is not installed")
    for path in (qemu, program()):
        told = libvirtd.ask(
            "domcapabilities", "--emulatorbin", path, "--arch", "aarch64", "--machine", "virt"
        )
        tree = ElementTree.fromstring(told)
        assert tree.findtext("path") == path
        assert tree.findtext("machine").startswith("virt-")


def test_the_documents_ten_lines(libvirtd, tmp_path):
    """docs/libvirt.md's own commands, virt-install --import among them."""
    if shutil.which("virt-install") is None:
        pytest.skip("virt-install is not installed (apt-get install virtinst)")
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed (apt-get install qemu-utils)")
    text = (ROOT / "docs/libvirt.md").read_text()
    (commands,) = re.findall("^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "commands").write_text(commands)
    # A cache of its own, so that the guest is made by what is tried here, of packages that are there.
    (tmp_path / "cache/emu").mkdir(parents=True)
    (tmp_path / "cache/emu/debian").symlink_to(cache() / "debian")
    environ = {
        **os.environ,
        "PATH": f"{Path(program()).parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "LIBVIRT_DEFAULT_URI": libvirtd.uri,
    }
    screen = Terminal("-eux", "commands", program="sh", command=(), env=environ, cwd=tmp_path)
    screen.wait_for(PROMPT, 180)
    libvirtd.virsh("dommemstat", "demo", "--period", "1")
    until(lambda: statistics(libvirtd, "demo").get("unused"))
    assert set(statistics(libvirtd, "demo")) == STATISTICS
    screen.type(b"\x1d")
    assert screen.ended(60) == 0, screen.seen
    libvirtd.wait("shut off (shutdown)", "domstate", "demo", "--reason")
    libvirtd.virsh("undefine", "demo")
    screen.close()
