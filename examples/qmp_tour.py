"""A tour of QMP: QEMU's own client library (PyPI's qemu.qmp) looks at a running machine and steers it.

    python examples/qmp_tour.py

The machine is emu-system-aarch64 with a guest of four instructions that counts in memory, a disk, a network
card, a balloon and a port that is free.  Every command is printed as it is sent, with what is answered in
short; events are printed as they come.  The last command ends the machine, and the tour ends with its status.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient

import emu.block

RAM, KERNEL, COUNTER = 0x4000_0000, 0x4008_0000, 0x4100_0000
# mov x0, #COUNTER;  again: add x1, x1, #1;  str x1, [x0];  b again
GUEST = b"".join(word.to_bytes(4, "little") for word in (0xD2A82000, 0x91000421, 0xF9000001, 0x17FFFFFE))
WIDTH = 100
MIB = 1 << 20


class Tour:
    """A connection that shows what is said on it.  count: of commands that were answered."""

    def __init__(self, client: QMPClient) -> None:
        self.client = client
        self.count = 0
        self.came: list[str] = []
        self._changed = asyncio.Condition()

    async def events(self) -> None:
        """Prints events as they come."""
        async for event in self.client.events:
            print(f"    * {event['event']} {short(event.get('data', ''))}".rstrip())
            async with self._changed:
                self.came.append(event["event"])
                self._changed.notify_all()

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Sends a command; `_` in an argument's name stands for a hyphen."""
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        print(f"  {command} {short(given)}" if given else f"  {command}")
        answer = await self.client.execute(command, given)
        print(f"    {short(answer)}")
        self.count += 1
        return answer

    async def human(self, line: str) -> str:
        """A command of the monitor for people."""
        answer: str = await self.ask("human-monitor-command", command_line=line)
        return answer

    async def until(self, name: str) -> None:
        """Waits for an event that has come since the last command of that kind, or will."""
        async with self._changed:
            await self._changed.wait_for(lambda: name in self.came)


def short(value: Any) -> str:
    """A value on one line; of a list how long it is, too."""
    text = json.dumps(value) if not isinstance(value, str) else " | ".join(value.split("\r\n")).rstrip(" |")
    count = f"{len(value)}: " if isinstance(value, list) and len(value) > 1 else ""
    return count + (text if len(text) <= WIDTH else f"{text[:WIDTH]} ...")


def about(title: str) -> None:
    """A heading."""
    print(f"\n{title}")


async def tour(ask: Tour, folder: Path) -> None:
    """All of it, in an order that makes sense."""
    about("Who is there")
    await ask.ask("query-version")
    await ask.ask("query-name")
    await ask.ask("query-target")
    await ask.ask("query-kvm")
    await ask.ask("query-commands")
    await ask.ask("query-events")
    await ask.ask("query-qmp-schema")
    await ask.ask("query-machines")

    about("Run state")
    await ask.ask("query-status")
    await ask.ask("cont")
    await ask.until("RESUME")
    await ask.ask("stop")
    await ask.ask("query-status")
    await ask.ask("system_reset")
    await ask.ask("cont")
    await ask.ask("system_powerdown")

    about("CPUs")
    await ask.ask("query-cpus-fast")
    await ask.ask("query-cpu-definitions")
    await ask.ask("query-hotpluggable-cpus")

    about("Memory: the guest's counter, saved twice, has gone on")
    await ask.ask("query-memory-size-summary")
    await ask.ask("query-balloon")
    await ask.ask("balloon", value=48 * MIB)
    counts = [0]
    while len(set(counts)) < 3:
        await ask.ask("pmemsave", val=COUNTER, size=8, filename=str(folder / "counter"))
        counts.append(int.from_bytes((folder / "counter").read_bytes(), "little"))
    print(f"    the guest had counted to {counts[-2]}, and then to {counts[-1]}")
    await ask.ask("memsave", val=RAM, size=4096, filename=str(folder / "first-page"))

    about("Disks: a second one comes, the first is kept as it is, and grows")
    await ask.ask("query-block")
    await ask.ask("query-blockstats")
    file = {"driver": "file", "filename": str(folder / "second.raw")}
    await ask.ask("blockdev-add", driver="raw", node_name="second", file=file)
    await ask.ask("query-named-block-nodes", flat=True)
    await ask.ask("blockdev-del", node_name="second")
    overlay = str(folder / "overlay.qcow2")
    await ask.ask("blockdev-snapshot-sync", node_name="disk", snapshot_file=overlay, snapshot_node_name="top")
    await ask.ask("block_resize", node_name="top", size=32 * MIB)
    (disk,) = await ask.ask("query-block")
    assert disk["inserted"]["image"]["virtual-size"] == 32 * MIB
    await ask.ask("query-block-jobs")

    about("Lines and networks")
    await ask.ask("query-chardev")
    await ask.ask("chardev-add", id="log", backend={"type": "file", "data": {"out": str(folder / "log")}})
    await ask.ask("chardev-remove", id="log")
    await ask.ask("query-rx-filter")
    await ask.ask("set_link", name="card", up=False)
    await ask.ask("set_link", name="card", up=True)
    await ask.ask("netdev_add", type="user", id="other")

    about("Devices and objects: a card is plugged in")
    await ask.ask("device-list-properties", typename="virtio-net-pci")
    await ask.ask("device_add", driver="virtio-net-pci", id="late", netdev="other", bus="port")
    await ask.ask("object-add", qom_type="secret", id="key", data="open sesame")
    await ask.ask("qom-list", path="/machine/peripheral")
    await ask.ask("qom-get", path="/machine/peripheral/balloon", property="guest-stats")
    await ask.ask(
        "qom-set", path="/machine/peripheral/balloon", property="guest-stats-polling-interval", value=2
    )
    await ask.ask("qom-list-types", implements="device")

    about("What people type")
    await ask.human("info status")
    await ask.human("info registers")
    await ask.human(f"xp /4i {KERNEL:#x}")
    await ask.human("info mtree")

    about("Into a file, and on from here")
    await ask.ask("query-migrate-capabilities")
    await ask.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    await ask.ask("migrate", uri=f"file:{folder / 'machine'}")
    while (await ask.ask("query-migrate"))["status"] != "completed":
        await asyncio.sleep(0.05)
    print(f"    the file has {(folder / 'machine').stat().st_size >> 10} KiB")
    await ask.ask("query-status")
    await ask.ask("cont")
    await ask.ask("query-status")


async def steer(path: Path, folder: Path) -> int:
    """Connects, makes the tour and ends the machine; how many commands were answered."""
    client = QMPClient("tour")
    await client.connect(str(path))
    shown = Tour(client)
    listener = asyncio.create_task(shown.events())
    try:
        await tour(shown, folder)
        about("The end")
        await shown.ask("quit")
        await shown.until("SHUTDOWN")
    finally:
        listener.cancel()
        with contextlib.suppress(EOFError):  # the machine's end may be seen first
            await client.disconnect()
    return shown.count


def main() -> int:
    """Starts the machine and makes the tour; the machine's exit status."""
    with tempfile.TemporaryDirectory(prefix="tour-") as name:
        folder = Path(name)
        (folder / "guest").write_bytes(GUEST)
        (folder / "second.raw").write_bytes(bytes(MIB))
        emu.block.create(folder / "disk.qcow2", 16 * MIB)
        words = ["-M", "virt", "-m", "64", "-name", "tour", "-S", "-nodefaults", "-display", "none"]
        words += ["-kernel", str(folder / "guest"), "-serial", "null"]
        words += ["-device", "pcie-root-port,id=port,chassis=1"]
        words += [
            "-blockdev",
            f"driver=qcow2,node-name=disk,file.driver=file,file.filename={folder}/disk.qcow2",
        ]
        words += ["-device", "virtio-blk-pci,drive=disk,id=first", "-device", "virtio-balloon-pci,id=balloon"]
        words += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,id=card"]
        words += ["-qmp", f"unix:{folder}/qmp,server=on"]
        program = Path(sys.executable).with_name("emu-system-aarch64")
        with subprocess.Popen([program, *words]) as machine:
            try:
                while not (folder / "qmp").exists() and machine.poll() is None:
                    asyncio.run(asyncio.sleep(0.02))
                count = asyncio.run(steer(folder / "qmp", folder))
                status = machine.wait(60)
            finally:
                machine.kill()
        print(f"\n{count} commands were answered; the machine ended with status {status}")
        return status


if __name__ == "__main__":
    sys.exit(main())
