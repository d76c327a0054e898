"""HMP: `info`, what there is to be seen of a machine."""

from __future__ import annotations

from emu.monitor.hmp import Hmp, hmp


@hmp("info status")
def info_status(monitor: Hmp) -> str:
    """The machine's run state."""
    if monitor.run.running:
        return "VM status: running\n"
    more = "" if monitor.run.status == "paused" else f" ({monitor.run.status})"
    return f"VM status: paused{more}\n"


@hmp("info version")
def info_version(monitor: Hmp) -> str:
    """The version of emu, and of QEMU whose commands these are."""
    from emu import __version__
    from emu.monitor.qmp import VERSION

    return f"emu {__version__} (QEMU {VERSION['major']}.{VERSION['minor']}.{VERSION['micro']})\n"


@hmp("info name")
def info_name(monitor: Hmp) -> str:
    """The machine's name."""
    return f"{monitor.client.control.name}\n" if monitor.client.control.name else ""


@hmp("info uuid")
def info_uuid(monitor: Hmp) -> str:
    """The machine's UUID."""
    return f"{monitor.client.control.uuid}\n"


@hmp("info kvm")
def info_kvm(monitor: Hmp) -> str:
    """Whether KVM runs the guest, and what its CPUs did."""
    on = monitor.machine.accel.caps.name == "kvm"
    shown = f"kvm support: {'enabled' if on else 'disabled'}\n"
    return shown + (_done(monitor) if on else "")


def _done(monitor: Hmp) -> str:
    with monitor.run.held():
        return "".join(f"{line}\n" for line in monitor.machine.done())


@hmp("info registers")
def info_registers(monitor: Hmp, all: bool = False) -> str:
    """The registers of the chosen CPU; -a: of all."""
    from emu.report import CpuView

    machine = monitor.machine
    shown = ""
    with monitor.run.held():
        for index in range(len(machine.cpus)) if all else [monitor.cpu]:
            view = CpuView(machine.cpus[index].vcpu, machine.accel.arch, machine.memory)
            shown += f"\nCPU#{index}\n" + "".join(f"{line}\n" for line in view.registers())
    return shown


@hmp("info cpus")
def info_cpus(monitor: Hmp) -> str:
    """The CPUs and the host's threads that run them."""
    shown = ""
    for cpu in monitor.client.execute("query-cpus-fast", {}):
        index = cpu["cpu-index"]
        mark = "*" if index == monitor.cpu else " "
        shown += f"{mark} CPU #{index}: thread_id={cpu['thread-id']}\n"
    return shown


@hmp("info mem")
def info_mem(monitor: Hmp) -> str:
    """The virtual memory that the chosen CPU has now: ranges, their sizes and rights."""
    from emu.monitor.page_tables import ranges

    machine = monitor.machine
    with monitor.run.held():
        found = ranges(machine.cpus[monitor.cpu].vcpu, machine.accel.arch.name, machine.memory)
    return "".join(f"{start:016x}-{end:016x} {end - start:016x} {rights}\n" for start, end, rights in found)


@hmp("info mtree")
def info_mtree(monitor: Hmp) -> str:
    """The memory map as the guest sees it, and the ports."""
    from accel.memory import KIND_NAMES

    machine = monitor.machine
    spaces = [machine.memory] + ([machine.ports.space] if machine.ports is not None else [])
    shown = ""
    for space in spaces:
        shown += f"address-space: {space.name}\n"
        for piece in space.flat():
            kind = KIND_NAMES[piece.region.kind].lower()
            inside = f" @{piece.offset:016x}" if piece.offset else ""
            end = piece.base + piece.size - 1
            shown += f"  {piece.base:016x}-{end:016x} (prio {piece.region.priority}, {kind}): "
            shown += f"{piece.region.name}{inside}\n"
    return shown


@hmp("info qtree")
def info_qtree(monitor: Hmp) -> str:
    """The devices and where they are plugged in."""
    machine = monitor.machine
    shown = ""
    for title, bus in (("memory", machine.bus), ("ports", machine.ports)):
        if bus is None:
            continue
        shown += f"bus: {title}\n"
        for name, attachment in bus.attached.items():
            shown += f'  dev: {type(attachment.device).__name__.lower()}, id "{name}"\n'
            end = attachment.base + attachment.device.size - 1
            shown += f"    {attachment.base:#x}-{end:#x}\n"
            for output, number in attachment.irqs.items():
                shown += f"    {output} {number}\n"
    shown += "bus: virtio\n" if machine.inventory.devices else ""
    for entry in machine.inventory.devices:
        shown += f'  dev: {entry.driver}, id "{entry.name}"\n'
        for name, value in entry.properties.items():
            shown += f'    {name} = "{value}"\n'
    return shown


@hmp("info block")
def info_block(monitor: Hmp, nodes: bool = False, verbose: bool = False, device: str | None = None) -> str:
    """The disks and their images; -n: all block nodes; -v: with their sizes."""
    shown = []
    if nodes:
        told = [("", "", each) for each in monitor.client.execute("query-named-block-nodes", {"flat": True})]
    else:
        told = [
            (each["device"], each["qdev"], each["inserted"])
            for each in monitor.client.execute("query-block", {})
        ]
    for name, qdev, inserted in told:
        if device is not None and device not in (name, qdev, inserted["node-name"]):
            continue
        node = inserted["node-name"]
        title = f"{name} ({node})" if name else node
        rights = ", read-only" if inserted["ro"] else ""
        lines = [f"{title}: {inserted['file']} ({inserted['drv']}{rights})"]
        if qdev:
            lines.append(f"    Attached to:      {qdev}")
        cache = inserted["cache"]
        modes = [
            word for word, on in (("direct", cache["direct"]), ("ignore flushes", cache["no-flush"])) if on
        ]
        modes.insert(0, "writeback" if cache["writeback"] else "writethrough")
        lines.append(f"    Cache mode:       {', '.join(modes)}")
        if "backing_file" in inserted:
            depth = inserted["backing_file_depth"]
            lines.append(f"    Backing file:     {inserted['backing_file']} (chain depth: {depth})")
        if verbose:
            image = inserted["image"]
            lines.append(f"    Size:             {image['virtual-size']} bytes")
            lines.append(f"    Size on the host: {image['actual-size']} bytes")
        shown.append("".join(f"{line}\n" for line in lines))
    return "\n".join(shown)


@hmp("info blockstats")
def info_blockstats(monitor: Hmp) -> str:
    """What the guest has done with its disks."""
    shown = ""
    for each in monitor.client.execute("query-blockstats", {}):
        stats = each["stats"]
        names = ["rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations"]
        names += ["wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns", "rd_merged", "wr_merged"]
        told = " ".join(f"{name}={stats[name]}" for name in names)
        shown += f"{each['device'] or each['node-name']}: {told}\n"
    return shown


@hmp("info network")
def info_network(monitor: Hmp) -> str:
    """The network cards, the other ends of their cables, and the frames that passed."""
    from emu.monitor.commands_net import cards

    shown = ""
    netdevs = monitor.machine.inventory.netdevs
    for number, (label, entry, card) in enumerate(cards(monitor.client)):
        frames = ",".join(f"{name}={count}" for name, count in card.frames.items())
        shown += (
            f"{label}: index={number},type=nic,model={entry.driver},macaddr={card.mac.hex(':')},{frames}\n"
        )
        if entry.netdev in netdevs:
            shown += f" \\ {entry.netdev}: index=0,type={netdevs[entry.netdev].kind}\n"
    return shown


@hmp("info balloon")
def info_balloon(monitor: Hmp) -> str:
    """How much memory the guest has, and what it knows of it."""
    from emu.monitor.balloons import balloon_of

    balloon = balloon_of(monitor.machine)
    actual = monitor.client.execute("query-balloon", {})["actual"]
    known = balloon.stats
    if not known.pop("last-update"):
        known = {}
    more = "".join(f" {name.removeprefix('stat-')}={value}" for name, value in known.items())
    return f"balloon: actual={actual >> 20}{more}\n"


@hmp("info chardev")
def info_chardev(monitor: Hmp) -> str:
    """The host's ends of character streams."""
    told = monitor.client.execute("query-chardev", {})
    return "".join(f"{each['label']}: filename={each['filename']}\n" for each in told)


@hmp("info jit")
def info_jit(monitor: Hmp) -> str:
    """What translates the guest's code."""
    caps = monitor.machine.accel.caps
    if caps.name == "kvm":
        return "the guest's code runs on the host's CPU (kvm), and nothing is translated\n"
    notes = "".join(f"{note}\n" for note in caps.notes)
    done = _done(monitor)
    return f"the guest's code is translated ({caps.name}); the engine keeps no counts\n{notes}{done}"


@hmp("info qom-tree")
def info_qom_tree(monitor: Hmp, path: str = "/") -> str:
    """The tree of objects."""
    from emu.monitor.objects import Object, find

    def lines(name: str, at: Object, deep: int) -> str:
        below = "".join(lines(each, child, deep + 1) for each, child in at.children.items())
        return f"{'  ' * deep}/{name} ({at.type})\n{below}"

    return lines(path.rstrip("/").rpartition("/")[2], find(monitor.client.control, path), 0)
