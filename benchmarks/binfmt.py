"""A binfmt_misc of one's own: in a user namespace (Linux 6.7) the kernel has qemu run programs of another
ISA, and the rest of the system does not see it."""

# ELF headers as binfmt_misc wants them, by Debian's architecture.
_ELF = r"\x7fELF{}\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00{}\x00"
_MAGIC = {"arm64": _ELF.format(r"\x02", r"\xb7"), "armhf": _ELF.format(r"\x01", r"\x28")}
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
QEMU = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}


def register(architecture: str, qemu: str) -> str:
    """Lines of shell that do it, inside of the namespace.

    The flags: F, opened at once, as a chroot will not have it; P, keeps argv[0].
    """
    return f"""\
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' ':qemu:M::{_MAGIC[architecture]}:{_MASK}:{qemu}:FP' >/proc/sys/fs/binfmt_misc/register
"""
