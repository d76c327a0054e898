"""QEMU's command line: every option has a place, what is not supported is named, both forms are one."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from accel.errors import DeviceError, EmuError
from emu.system import types
from emu.system.build import Builder
from emu.system.given import Given
from emu.system.options import BY_NAME, OPTIONS, document, help_text, parse
from tests.emu.system import run


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
def test_every_option_of_qemus_has_a_place(arch):
    qemu = shutil.which(f"qemu-system-{arch}")
    if qemu is None:
        pytest.skip(f"qemu-system-{arch}, whose options are looked for in ours, is not installed")
    text = subprocess.run([qemu, "-help"], capture_output=True, text=True, check=True).stdout
    theirs = set(re.findall(r"^--?([\w-]+)", text, re.MULTILINE))
    theirs |= set(re.findall(r"^-[\w-]+ or -([\w-]+)", text, re.MULTILINE))
    assert len(theirs) > 100
    assert theirs - set(BY_NAME) == set()


def test_no_option_has_two_places():
    names = [name for option in OPTIONS for name in option.names]
    assert len(names) == len(set(names))


def test_help_tells_every_option():
    text = help_text("emu-system-aarch64")
    for option in OPTIONS:
        assert f"-{option.names[0]}" in text


def test_the_document_is_made_of_the_table():
    """python -c 'from emu.system.options import document; print(document(), end="")' > docs/qemu.md"""
    assert (Path(__file__).parent.parent.parent / "docs/qemu.md").read_text() == document()


def test_options_have_one_hyphen_or_two():
    asked = parse(["-M", "virt", "--machine", "its=off", "-S", "disk.raw"])
    assert asked.all("machine") == ["virt", "its=off"]
    assert asked.has("S")
    assert asked.last("hda") == "disk.raw"


@pytest.fixture
def built():
    """Builds a machine of options; gives the builder."""
    from contextlib import ExitStack

    with ExitStack() as opened:

        def build(*words, arch="aarch64"):
            builder = Builder(arch, parse([str(word) for word in words]), lambda text: None, opened)
            builder.machine = builder.build()
            return builder

        yield build


BARE = ("-M", "virt", "-nodefaults", "-display", "none")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["-foo"], "-foo: there is no such option"),
        (["-vnc", ":0"], "-vnc is not supported: there is no display"),
        (["-usb"], "-usb is not supported"),
        (["-smbios", "type=1"], "-smbios is not supported"),
        (["-m"], "-m needs a value"),
        ([], "which machine?"),
        (["-M", "raspi3b"], "-machine raspi3b is not supported; use virt, none"),
        (["-M", "virt,usb=on"], "-machine: usb=on is not supported"),
        (["-M", "virt,secure=on"], "secure=on is not supported"),
        (["-M", "virt,frob=1"], "no option 'frob'"),
        (["-M", "virt", "-cpu", "cortex-a9"], "-cpu cortex-a9 is not supported (did you mean cortex-a72?)"),
        (["-M", "virt", "-cpu", "cortex-a57,sve=on"], "sve=on is not supported"),
        (["-M", "virt", "-smp", "2"], "2 CPUs: this board has 1 to 1"),
        (["-M", "virt", "-smp", "1,maxcpus=4"], "maxcpus=4"),
        (["-M", "virt", "-smp", "1,sockets=1,cores=2,threads=1,dies=1,clusters=1"], "make 2 CPUs"),
        (["-M", "virt", "-m", "some"], "'some' is no size"),
        (["-M", "virt", "-m", "256,slots=2,maxmem=1G"], "maxmem"),
        (["-M", "virt,memory-backend=r", "-m", "256"], "no such memory-backend-ram"),
        (
            ["-M", "virt,memory-backend=r", "-m", "256", "-object", "memory-backend-ram,id=r,size=1M"],
            "has 1048576 bytes",
        ),
        (["-object", "tls-creds-x509,id=t", "-M", "virt"], "-object tls-creds-x509 is not supported"),
        (["-M", "virt", "-accel", "xen"], "no accelerator is called 'xen'"),
        (["-M", "virt", "-display", "gtk"], "-display gtk is not supported"),
        (["-M", "virt", "-vga", "std"], "-vga std is not supported"),
        (["-M", "virt", "-audiodev", "alsa,id=a"], "-audiodev alsa is not supported"),
        (["-M", "virt", "-overcommit", "mem-lock=on"], "mem-lock=on is not supported"),
        (["-M", "virt", "-uuid", "1"], "-uuid 1"),
        (["-M", "virt", "-rtc", "base=noon"], "-rtc base=noon"),
        (["-M", "virt", "-rtc", "clock=vm"], "clock=vm is not supported"),
        ([*BARE, "-device", "virtio-gpu-pci"], "-device virtio-gpu-pci is not supported"),
        ([*BARE, "-device", "qemu-xhci"], "-device qemu-xhci is not supported"),
        ([*BARE, "-device", "virtio-rng-pci,frob=1"], "-device virtio-rng-pci: frob is not supported"),
        ([*BARE, "-device", "virtio-rng-pci,disable-modern=on"], "disable-modern=on"),
        ([*BARE, "-device", "virtio-rng-pci,addr=40"], "no place"),
        ([*BARE, "-device", "virtio-rng-pci,addr=x"], "addr=x is no place"),
        ([*BARE, "-device", "virtio-rng-pci,bus=usb.0"], "there is no bus 'usb.0'"),
        ([*BARE, "-device", "virtio-rng-pci,rng=r"], "there is no such source"),
        ([*BARE, "-device", "virtio-blk-pci"], "drive is missing"),
        ([*BARE, "-device", "virtio-blk-pci,drive=d"], "no such drive or block node"),
        ([*BARE, "-device", "virtio-net-pci,netdev=n"], "there is no such end"),
        ([*BARE, "-device", "virtio-9p-pci,fsdev=f,mount_tag=t"], "there is no such folder"),
        ([*BARE, "-device", "virtserialport,chardev=c"], "no virtio-serial device"),
        ([*BARE, "-device", '{"driver":"virtio-rng-pci"'], "this is no JSON"),
        ([*BARE, "-device", '["virtio-rng-pci"]'], "-device"),
        ([*BARE, *2 * ("-device", "virtio-rng-pci,id=x")], "two devices have the id 'x'"),
        ([*BARE, *2 * ("-device", "virtio-balloon-pci")], "there is a balloon already"),
        ([*BARE, "-drive", "if=ide,file=x"], "if=ide is not supported"),
        ([*BARE, "-drive", "file=/nowhere/x,format=raw"], "/nowhere/x"),
        ([*BARE, "-drive", "format=raw"], "no file"),
        ([*BARE, "-drive", "file=x,format=vmdk"], "format=vmdk is not supported"),
        ([*BARE, "-drive", "file=x,bps=100"], "bps is not supported"),
        ([*BARE, "-blockdev", "driver=nbd,node-name=n"], "'nbd' is not supported"),
        ([*BARE, "-blockdev", "driver=file,filename=x"], "node-name is missing"),
        ([*BARE, "-blockdev", "driver=raw,node-name=n,file=f"], "'f'"),
        ([*BARE, "-netdev", "vde,id=n"], "-netdev vde is not supported"),
        ([*BARE, "-netdev", "user,id=n,tftp=/srv"], "tftp is not supported"),
        ([*BARE, "-netdev", "tap,id=n,ifname=x,script=/etc/ifup"], "script"),
        ([*BARE, "-nic", "user,model=e1000"], "-nic model=e1000 is not supported"),
        ([*BARE, "-net", "nic,model=rtl8139", "-net", "user"], "model=rtl8139 is not supported"),
        ([*BARE, "-chardev", "spicevmc,id=c"], "-chardev spicevmc is not supported"),
        ([*BARE, "-chardev", "pty,id=c", "-chardev", "pty,id=c"], "two chardevs have the id 'c'"),
        ([*BARE, "-chardev", "pty,id=c,mux=on", "-serial", "chardev:c"], "mux=on is for stdio"),
        ([*BARE, "-serial", "vc"], "-serial vc is not supported"),
        ([*BARE, "-serial", "chardev:c"], "no chardev has the id 'c'"),
        ([*BARE, "-serial", "null", "-serial", "null"], "2 serial lines were given"),
        ([*BARE, "-mon", "chardev=c"], "no chardev has the id 'c'"),
        ([*BARE, "-chardev", "null,id=c", "-serial", "chardev:c", "-mon", "chardev=c"], "at serial line 0"),
        ([*BARE, "-add-fd", "fd=99,set=1"], "fd=99"),
        ([*BARE, "-drive", "file=/dev/fdset/7,format=raw"], "there is no such set"),
        ([*BARE, "-fw_cfg", "name=opt/x,file=/nowhere"], "-fw_cfg /nowhere"),
        ([*BARE, "-virtfs", "proxy,path=/,mount_tag=t"], "-virtfs proxy is not supported"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_had_is_named(built, words, cause):
    with pytest.raises(EmuError) as raised:
        built(*words)
    assert cause in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
def test_an_error_is_one_line_with_the_programs_name(arch):
    done = run("-M", "virt-1.0", arch=arch)
    assert done.returncode == 2
    assert re.fullmatch(rf"emu-system-{arch}: -machine virt-1.0 is not supported.*; use .*\n", done.stderr)


def test_json_and_words_are_the_same():
    spoken = Given("-device", "virtio-blk-pci,drive=d,,0,addr=0x1,share-rw=off", first="driver")
    written = {"driver": "virtio-blk-pci", "drive": "d,0", "addr": "0x1", "share-rw": False}
    assert Given("-device", json.dumps(written)).values == spoken.values
    inner = Given("-blockdev", '{"driver": "raw", "file": {"driver": "file", "filename": "x"}}')
    assert inner.values == Given("-blockdev", "driver=raw,file.driver=file,file.filename=x").values


def test_a_word_without_a_value_is_on_and_one_with_no_is_off():
    given = Given("-chardev", "socket,path=/s,server,nowait,nodelay", first="backend")
    assert [given.switch(name) for name in ("server", "wait", "nodelay")] == [True, False, True]


@pytest.mark.parametrize("words", ["{" * 50_000, '{"a":' * 40 + "1" + "}" * 40, '{"driver": 1e999}', "{}"])
def test_json_that_makes_no_sense_is_told(built, words):
    for option in ("-device", "-blockdev", "-object", "-netdev"):
        with pytest.raises(DeviceError):
            built(*BARE, option, words)


def test_devices_are_where_and_what_they_were_asked_to_be(built, tmp_path):
    disk = tmp_path / "a,b.raw"
    disk.write_bytes(bytes(1 << 20))
    words = str(disk).replace(",", ",,")
    built = built(
        *BARE, "-m", "256",
        "-device", "pcie-root-port,id=p1,bus=pcie.0,addr=0x1.0x0,multifunction=on,chassis=1,port=8",
        "-device", '{"driver":"pcie-root-port","id":"p2","bus":"pcie.0","addr":"0x1.0x1","chassis":2}',
        "-blockdev", f"driver=file,filename={words},node-name=f",
        "-blockdev", '{"driver":"raw","file":"f","node-name":"r","read-only":true}',
        "-device", "virtio-blk-pci,drive=r,id=d,bus=p2,addr=0x0,serial=S1",
        "-device", "virtio-rng-device",
        "-chardev", "null,id=c", "-device", "virtio-serial-pci,id=vs", "-device",
        "virtserialport,bus=vs.0,chardev=c,name=org.example.0,id=port0",
        "-netdev", "socket,id=n,listen=:0", "-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:07,addr=7",
    )  # fmt: skip
    found = {entry.name or entry.driver: entry for entry in built.inventory.devices}
    assert found["d"].function.place == (0, 0)
    assert found["d"].bus == "p2"
    assert found["d"].virtio.serial == "S1"
    assert found["d"].node.name == "r"
    assert found["d"].node.image.info().read_only
    assert found["d"].path == "/machine/peripheral/d"
    assert found["p2"].function.place == (1, 1)
    assert found["port0"].chardev == "c"
    card = next(entry for entry in built.inventory.devices if entry.netdev == "n")
    assert card.function.place == (7, 0)
    assert card.virtio.mac == bytes.fromhex("525400000007")
    assert [
        entry.virtio.kind for entry in built.inventory.devices if entry.virtio in built.machine.virtio
    ] == ["virtio-rng"]
    host = built.machine.bus.attached["pci"].device
    assert set(host.functions) == {(0, 0), (1, 0), (1, 1), (2, 0), (7, 0)}


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
def test_help_of_a_kind_lists_what_is_accepted(arch, built):
    for name, (_, properties) in types.devices(arch).items():
        text = run("-device", f"{name},help", arch=arch).stdout
        assert all(f"  {key}=<" in text for key in properties)
        break
    listed = run("-device", "help", arch=arch).stdout
    assert re.findall('name "([^"]+)"', listed) == sorted(types.devices(arch))
    for option, names in (
        ("-machine", [each.name for each in types.MACHINES[arch]]),
        ("-cpu", types.cpus(arch)),
    ):
        words = run(option, "help", arch=arch).stdout.split()
        assert set(names) <= set(words)
    if arch == "aarch64":
        for name in types.cpus(arch):
            assert built(*BARE, "-cpu", name).machine.accel.caps.name == "tcg"


def test_the_version_names_qemus():
    assert re.search(r"QEMU emulator version (\d+)\.(\d+)\.(\d+)", run("-version").stdout)
