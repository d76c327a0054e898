"""Which CPU features a guest sees: the host's that KVM supports, less what is unsafe, with its own topology.

Hidden by default: nested virtualization (its state is not saved with a machine), the performance counters
(they show the host), and what a feature needs that this VM lacks (TSC deadline and x2APIC without the
kernel's LAPIC).  Where KVM emulates kernel mode, also what it does not emulate there.  Every vCPU is a
package of one core and one thread.

With the name of a CPU (isa.x86_64_cpus) it is that one, as far as the host goes.

On kvm_pvm hosts the guest's CPUID is not quite what was set: CPL3 sees the host's own leaves, and at CPL0
some bits (XSAVE, AVX, POPCNT, SMAP) come back.

Sources: Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E; Linux, Documentation/virt/kvm/x86/cpuid.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from accel.errors import AccelError, nearest
from accel.kvm.device import checked, emulates_cpl0
from accel.native import ffi, lib
from isa.x86_64_cpus import AMD, CPUS, Cpu, Wish

# kvm_cpuid2: a header (count, padding), then entries of function, index, flags, eax, ebx, ecx, edx, 3 unused.
HEADER = struct.Struct("<II")
ENTRY = struct.Struct("<10I")
FLAG_INDEX = 1  # the index counts
MOST = 256  # entries; the kernel has had 80 since 4.0 and 256 since 5.12

# Names are Linux's (/proc/cpuinfo), bit 0 first, "-" for a bit without a name here.
_BITS = {
    (1, 0, "ecx"): (
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid"
        " dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand"
        " hypervisor"
    ),
    (1, 0, "edx"): (
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts"
        " acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"
    ),
    (7, 0, "ebx"): (
        "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm"
        " zero_fcs_fds mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb"
        " intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl"
    ),
    (7, 0, "ecx"): (
        "prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq"
        " avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect"
        " cldemote - movdiri movdir64b enqcmd sgx_lc pks"
    ),
    (7, 0, "edx"): (
        "- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect - md_clear - - -"
        " serialize - - tsxldtrk pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8"
        " spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities spec_ctrl_ssbd"
    ),
    (7, 1, "eax"): (
        "- - - - avx_vnni avx512_bf16 lass cmpccxadd - - fzrm fsrs fsrc - - - - fred lkgs wrmsrns -"
        " amx_fp16 hreset avx_ifma - - lam"
    ),
    (0xD, 1, "eax"): ("xsaveopt xsavec xgetbv1 xsaves"),
    (0x4000_0001, 0, "eax"): (
        "kvmclock kvm_nopiodelay - kvmclock2 kvm_asyncpf kvm_steal_time kvm_pv_eoi kvm_pv_unhalt -"
        " kvm_pv_tlb_flush kvm_asyncpf_vmexit kvm_pv_ipi kvm_poll_control kvm_pv_sched_yield"
        " kvm_asyncpf_int kvm_msi_ext_dest_id kvm_hc_map_gpa_range kvm_migration_control"
    ),
    (0x8000_0001, 0, "ecx"): (
        "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop"
        " skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc"
        " perfctr_llc mwaitx"
    ),
    (0x8000_0001, 0, "edx"): (
        "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm"
        " 3dnowext 3dnow"
    ),
    (0x8000_0008, 0, "ebx"): ("clzero irperf xsaveerptr"),
}

HIDDEN = (
    *("vmx", "smx", "svm", "monitor", "mwaitx", "ht"),
    *("pdcm", "perfctr_core", "perfctr_nb", "perfctr_llc", "ibs"),
)
NEEDS_LAPIC = ("tsc_deadline_timer", "x2apic", "extapic")
# Where kernel mode is emulated: what the emulator lacks; hypercalls, which never return there; and what KVM
# itself keeps in the guest's memory, since tcg does a part of the work (cross.c).
NOT_EMULATED = (
    *("kvmclock", "kvmclock2", "kvm_steal_time", "kvm_asyncpf", "kvm_asyncpf_int", "kvm_pv_eoi"),
    "cx16",
    "popcnt",
    "invpcid",
    "rdtscp",
    "rdpid",
    "smap",
    "kvm_pv_unhalt",
    "kvm_pv_ipi",
    "kvm_pv_sched_yield",
    "kvm_hc_map_gpa_range",
)

# What a named CPU has besides, whatever it is: it depends on where the guest runs.
ALWAYS = {
    *("hypervisor", "x2apic", "tsc_deadline_timer", "tsc_adjust"),
    *(name for name in _BITS[0x4000_0001, 0, "eax"].split() if name != "-"),
}
# Without one of these a feature is not there either (Intel SDM vol. 1, 13.2 and chapter 14).
NEEDS = {
    **dict.fromkeys(("avx", "pku", "xsaveopt", "xsavec", "xgetbv1", "xsaves"), ("xsave",)),
    **dict.fromkeys(
        ("avx2", "fma", "f16c", "vaes", "vpclmulqdq", "xop", "fma4", "avx_vnni"), ("xsave", "avx")
    ),
    **{
        name: ("xsave", "avx", "avx512f")
        for place, names in _BITS.items()
        for name in names.split()
        if name.startswith("avx512")
    },
}
# States of XSAVE by the features that use them.
STATES = {
    "avx": 1 << 2,
    "mpx": 3 << 3,
    "avx512f": 7 << 5,
    "pku": 1 << 9,
    "shstk ibt": 3 << 11,
    "amx_tile": 3 << 17,
}

# What tcg does with the host's help, instruction by instruction: not shown to a guest that stays there.
SLOW_UNDER_TCG = (
    *(
        "xsave",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "vaes",
        "vpclmulqdq",
        "gfni",
        "avx_vnni",
        "fsgsbase",
        "bmi1",
        "bmi2",
    ),
    *("avx512f", "avx512dq", "avx512ifma", "avx512cd", "avx512bw", "avx512vl", "avx512vbmi", "avx512_vbmi2"),
    *("avx512_vnni", "avx512_bitalg", "avx512_vpopcntdq", "avx512_bf16", "avx512_fp16", "xsaveopt", "xsavec"),
    *("xgetbv1", "xsaves", "smap"),
)

Leaves = dict[tuple[int, int], list[int]]
_REGISTERS = ("flags", "eax", "ebx", "ecx", "edx")


def feature_bits() -> dict[str, tuple[int, int, str, int]]:
    """Every feature by name: CPUID function, index, register and bit."""
    found = {}
    for (function, index, register), names in _BITS.items():
        for bit, name in enumerate(names.split()):
            if name != "-":
                found[name] = (function, index, register, bit)
    return found


def supported(device: int) -> Leaves:
    """What the host's KVM supports: (function, index) to [flags, eax, ebx, ecx, edx]."""
    return read(device, lib.EMU_KVM_GET_SUPPORTED_CPUID)


def read(fd: int, request: int) -> Leaves:
    """The leaves a device (GET_SUPPORTED_CPUID) or a vCPU (GET_CPUID2) answers."""
    buffer = bytearray(HEADER.size + MOST * ENTRY.size)
    HEADER.pack_into(buffer, 0, MOST, 0)
    checked(
        lib.emu_kvm_ioctl(fd, request, ffi.from_buffer(buffer)),
        "list the CPU's features",
        "update the host's kernel",
    )
    count = min(HEADER.unpack_from(buffer)[0], MOST)
    leaves: Leaves = {}
    for n in range(count):
        function, index, *values = ENTRY.unpack_from(buffer, HEADER.size + n * ENTRY.size)[:7]
        leaves[function, index if values[0] & FLAG_INDEX else 0] = values
    return leaves


def policy(
    leaves: Leaves,
    vcpu: int,
    *,
    lapic: bool,
    cpu: Wish | None = None,
    features: Mapping[str, bool] | None = None,
    emulated: bool | None = None,
) -> Leaves:
    """The leaves for vCPU number `vcpu`.

    lapic: whether the kernel holds the LAPIC; cpu: what --cpu asks for (default: the host's); features: names
    to show (True, as far as the host has them) or hide besides; emulated: whether KVM emulates kernel mode
    (default: as on this host).  Raises AccelError for an unknown feature, or one that the host lacks.
    """
    result = {key: list(values) for key, values in leaves.items()}
    bits = feature_bits()
    hidden = set(HIDDEN)
    if not lapic:
        hidden.update(NEEDS_LAPIC)
    if emulates_cpl0() if emulated is None else emulated:
        hidden.update(NOT_EMULATED)
    if cpu is not None and cpu.name != "host":
        hidden.update(bits.keys() - CPUS[cpu.name].features - ALWAYS)
        _set_identity(result, CPUS[cpu.name])
    for name, wanted in (cpu.features if cpu is not None else {}).items():
        _check_name(name, bits)
        (hidden.discard if wanted else hidden.add)(name)
    for name, wanted in (features or {}).items():
        _check_name(name, bits)
        if not wanted:
            hidden.add(name)
            continue
        hidden.discard(name)
        if not _has(leaves, bits[name]):
            raise AccelError(f"this host's KVM does not offer the CPU feature {name!r}; leave it out")
    hidden.update(name for name, needed in NEEDS.items() if hidden & set(needed))
    for name in hidden:
        function, index, register, bit = bits[name]
        if (function, index) in result:
            result[function, index][_REGISTERS.index(register)] &= ~(1 << bit)
    _limit_states(result, bits, hidden)
    _set_topology(result, vcpu)
    if (0xA, 0) in result:
        result[0xA, 0][1:] = [0, 0, 0, 0]
    return result


def missing(leaves: Leaves, cpu: Wish) -> list[str]:
    """What `cpu` asks for that the host's KVM does not offer.  Raises AccelError for a name nobody knows."""
    bits = feature_bits()
    wanted = set() if cpu.name == "host" else set(CPUS[cpu.name].features)
    for name, shown in cpu.features.items():
        _check_name(name, bits)
        (wanted.add if shown else wanted.discard)(name)
    return sorted(name for name in wanted if not _has(leaves, bits[name]))


def _check_name(name: str, bits: Mapping[str, object]) -> None:
    if name not in bits:
        raise AccelError(
            f"no CPU feature is called {name!r}{nearest(name, bits)}; names are those of /proc/cpuinfo"
        )


def _set_identity(leaves: Leaves, cpu: Cpu) -> None:
    """Vendor, family, model, stepping and name (Intel SDM vol. 2, CPUID leaves 0, 1 and 80000002h to 4h)."""
    if cpu.vendor:
        b, d, c = struct.unpack("<3I", cpu.vendor.encode())
        for key in ((0, 0), (0x8000_0000, 0)):
            if key in leaves:
                leaves[key][2:] = [b, c, d]
    family, model, stepping = cpu.signature
    signature = (
        stepping | (model & 15) << 4 | min(family, 15) << 8 | model >> 4 << 16 | max(family - 15, 0) << 20
    )
    if (1, 0) in leaves:
        leaves[1, 0][1] = signature
    if (0x8000_0001, 0) in leaves:
        leaves[0x8000_0001, 0][1] = signature if cpu.vendor == AMD else 0
    text = cpu.text.encode().ljust(48, b"\0")
    for n in range(3):
        if (0x8000_0002 + n, 0) in leaves:
            leaves[0x8000_0002 + n, 0][1:] = struct.unpack_from("<4I", text, 16 * n)
    # Of the host's alone: power, performance, its clocks, serial numbers.
    for key in [key for key in leaves if key[0] in (3, 5, 6, 0xA, 0x8000_0006, 0x8000_0007)]:
        leaves[key][1:] = [0, 0, 0, 0]


def _limit_states(leaves: Leaves, bits: Mapping[str, tuple[int, int, str, int]], hidden: set[str]) -> None:
    """Leaf 0DH: states for XCR0 and IA32_XSS whose features are all hidden are not there."""
    if (0xD, 0) not in leaves:
        return
    gone = 0
    for names, states in STATES.items():
        if all(name in hidden or not _has(leaves, bits[name]) for name in names.split()):
            gone |= states
    leaves[0xD, 0][1] &= ~gone
    left = leaves[0xD, 0][1]
    if (0xD, 1) in leaves:
        leaves[0xD, 1][3] &= ~gone
    size = 576
    for key in [key for key in leaves if key[0] == 0xD and key[1] >= 2]:
        if gone >> key[1] & 1:
            del leaves[key]
        elif left >> key[1] & 1:
            size = max(size, leaves[key][1] + leaves[key][2])
    leaves[0xD, 0][3] = size
    if "xsave" in hidden:
        for key in [key for key in leaves if key[0] == 0xD]:
            leaves[key][1:] = [0, 0, 0, 0]


def _has(leaves: Leaves, where: tuple[int, int, str, int]) -> bool:
    function, index, register, bit = where
    values = leaves.get((function, index))
    return values is not None and bool(values[_REGISTERS.index(register)] >> bit & 1)


def _set_topology(leaves: Leaves, vcpu: int) -> None:
    """One thread in one core in one package; the APIC ID is the vCPU's number."""
    if (1, 0) in leaves:
        one = leaves[1, 0]
        one[2] = one[2] & 0x0000_FFFF | 1 << 16 | (vcpu & 0xFF) << 24
        one[3] |= 1 << 31  # a hypervisor is present
    for (function, _), values in leaves.items():
        if function == 4 or function == 0x8000_001D:
            values[1] &= 0x3FFF  # no cache is shared
    if (0xB, 0) in leaves or leaves.get((0, 0), [0, 0])[1] >= 0xB:
        # level 0: threads, level 1: cores; EAX: bits to shift the ID by, EBX: how many
        leaves[0xB, 0] = [FLAG_INDEX, 0, 1, 1 << 8, vcpu]
        leaves[0xB, 1] = [FLAG_INDEX, 0, 1, 2 << 8 | 1, vcpu]
    for key in [key for key in leaves if key[0] == 0x1F]:
        del leaves[key]
    if (0x8000_0008, 0) in leaves:
        leaves[0x8000_0008, 0][3] = 0
    if (0x8000_001E, 0) in leaves:
        leaves[0x8000_001E, 0][1:] = [vcpu, 0, 0, 0]


def packed(leaves: Leaves) -> bytearray:
    """A kvm_cpuid2."""
    buffer = bytearray(HEADER.pack(len(leaves), 0))
    for (function, index), values in leaves.items():
        buffer += ENTRY.pack(function, index, *(value & 0xFFFF_FFFF for value in values), 0, 0, 0)
    return buffer


def for_tcg(leaves: Leaves) -> Leaves:
    """Of a vCPU's leaves what its companion under tcg shows."""
    result = {key: list(values) for key, values in leaves.items()}
    bits = feature_bits()
    for name in SLOW_UNDER_TCG:
        function, index, register, bit = bits[name]
        if (function, index) in result:
            result[function, index][_REGISTERS.index(register)] &= ~(1 << bit)
    return result


def after_a_move(leaves: Leaves) -> Leaves:
    """Of a vCPU's leaves what tcg shows when it takes the guest: without what the kernel would do, too."""
    result = for_tcg(leaves)
    bits = feature_bits()
    for name in NEEDS_LAPIC:
        function, index, register, bit = bits[name]
        if (function, index) in result:
            result[function, index][_REGISTERS.index(register)] &= ~(1 << bit)
    if (0x4000_0001, 0) in result:
        result[0x4000_0001, 0][1] = 0
    return result


def apply(vcpu_fd: int, leaves: Leaves) -> None:
    """Gives a vCPU its leaves; before its first run."""
    checked(
        lib.emu_kvm_ioctl(vcpu_fd, lib.EMU_KVM_SET_CPUID2, ffi.from_buffer(packed(leaves))),
        "set the CPU's features",
        "hide fewer or other features",
    )
