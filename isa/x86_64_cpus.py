"""Named x86-64 CPUs: which features each has, and what it is called.

The levels are the psABI's; qemu64 and the rest are as QEMU names them, with what the makers say of the CPU.
Features have Linux' names (/proc/cpuinfo).

Sources: System V ABI, AMD64 supplement, "Microarchitecture levels"; Intel SDM vol. 2, CPUID; AMD's processor
programming reference for family 17h.
"""

from __future__ import annotations

INTEL, AMD, HOST = "GenuineIntel", "AuthenticAMD", ""


class Cpu:
    """vendor: CPUID's, HOST for the host's own; signature: family, model, stepping; text: its name."""

    def __init__(
        self, vendor: str, signature: tuple[int, int, int], text: str, features: frozenset[str]
    ) -> None:
        self.vendor = vendor
        self.signature = signature
        self.text = text
        self.features = features


def _set(*words: str) -> frozenset[str]:
    return frozenset(" ".join(words).split())


# What 64-bit Linux asks for besides is in every CPU that has long mode.
_V1 = _set(
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2",
    "syscall nx lm",
)
_V2 = _V1 | _set("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3")
_V3 = _V2 | _set("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave")
_V4 = _V3 | _set("avx512f avx512bw avx512cd avx512dq avx512vl")
_QEMU64 = _V1 | _set("pni cx16 lahf_lm")

_WESTMERE = _V2 | _set("aes pclmulqdq")
_SANDY = _WESTMERE | _set("avx xsave rdtscp xsaveopt")
_IVY = _SANDY | _set("f16c rdrand fsgsbase smep erms")
_HASWELL = _IVY | _set("fma movbe avx2 bmi1 bmi2 invpcid pcid abm")
_SKYLAKE = _HASWELL | _set("rdseed adx smap 3dnowprefetch clflushopt xsavec xgetbv1")
_SKYLAKE_SERVER = _SKYLAKE | _V4 | _set("pdpe1gb clwb pku")
_EPYC = _V3 | _set(
    "aes pclmulqdq rdrand fsgsbase rdtscp cr8_legacy sse4a misalignsse 3dnowprefetch osvw mmxext fxsr_opt",
    "pdpe1gb rdseed adx smap smep clflushopt sha_ni xsaveopt xsavec xgetbv1",
)


def _level(number: int, features: frozenset[str]) -> Cpu:
    return Cpu(HOST, (15, 6, 1), f"x86-64-v{number} CPU", features)


CPUS = {
    "x86-64-v1": _level(1, _V1),
    "x86-64-v2": _level(2, _V2),
    "x86-64-v3": _level(3, _V3),
    "x86-64-v4": _level(4, _V4),
    "qemu64": Cpu(AMD, (15, 107, 1), "QEMU Virtual CPU", _QEMU64),
    "Nehalem": Cpu(INTEL, (6, 26, 3), "Intel Core i7 9xx (Nehalem)", _V2),
    "Westmere": Cpu(INTEL, (6, 44, 1), "Intel Xeon (Westmere)", _WESTMERE),
    "SandyBridge": Cpu(INTEL, (6, 42, 1), "Intel Xeon E312xx (Sandy Bridge)", _SANDY),
    "IvyBridge": Cpu(INTEL, (6, 58, 9), "Intel Xeon E3-12xx v2 (Ivy Bridge)", _IVY),
    "Haswell": Cpu(INTEL, (6, 60, 4), "Intel Core (Haswell)", _HASWELL),
    "Skylake-Client": Cpu(INTEL, (6, 94, 3), "Intel Core (Skylake)", _SKYLAKE),
    "Skylake-Server": Cpu(INTEL, (6, 85, 4), "Intel Xeon (Skylake)", _SKYLAKE_SERVER),
    "EPYC": Cpu(AMD, (23, 1, 2), "AMD EPYC", _EPYC),
}

# What else a feature may be called: by QEMU, or by the makers' manuals.
ALIASES = {
    "sse3": "pni",
    "lzcnt": "abm",
    "pclmuldq": "pclmulqdq",
    "tsc_deadline": "tsc_deadline_timer",
    "i64": "lm",
    "xd": "nx",
    "sha": "sha_ni",
    "cmpxchg16b": "cx16",
}


class Wish:
    """What `--cpu NAME,+feature,-feature,enforce` asks for.

    name: of CPUS, as it is spelt there, or "host"; features: shown (True) or hidden (False), Linux' names;
    enforce: whether it is an error that the host lacks something.
    """

    def __init__(self, words: str) -> None:
        name, *rest = words.split(",")
        self.name = NAMES.get(name.lower(), name)
        self.features: dict[str, bool] = {}
        self.enforce = False
        for word in rest:
            sign, feature = word[:1], word[1:]
            if word in ("enforce", "check"):
                self.enforce = word == "enforce"
                continue
            if sign not in ("+", "-"):
                feature, _, value = word.partition("=")
                sign = {"on": "+", "off": "-"}.get(value, "")
            if not sign or not feature:
                raise ValueError(f"{word!r} of --cpu {words}: use +FEATURE, -FEATURE or enforce")
            feature = feature.lower().replace("-", "_").replace(".", "_")
            self.features[ALIASES.get(feature, feature)] = sign == "+"

    @property
    def known(self) -> bool:
        """Whether the name is one of ours."""
        return self.name == "host" or self.name in CPUS


NAMES = {**{name.lower(): name for name in CPUS}, "host": "host", "max": "host", "": "host"}
