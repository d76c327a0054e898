"""What can go wrong, as a tree.  Every message is one line: the cause, then the remedy.

    EmuError                the caller's or the user's mistake, or a host that cannot; never a bug of ours
      NativeMissing         the C core is not built
      MapError              a region that does not fit the memory map
        Overlap             two regions claim the same addresses
      BadImage              a file that cannot be loaded: truncated, hostile, of the wrong kind
      DeviceError           a device or board that is wrongly put together
      AccelError            an accelerator that cannot do what was asked
        Unavailable         ... because this host lacks it (no /dev/kvm, no permission, no library)
        Unsupported         ... because it never can (KVM for a foreign ISA)
      GuestFault            the guest did what no engine can continue from

`status` is the process's exit status when the error ends the program: 2, as shells expect of a wrong use,
126 for a program that cannot be executed, 127 for one that is not there.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class EmuError(Exception):
    """Base of all errors that are told to the user in one line."""

    status = 2


class NativeMissing(EmuError, ImportError):
    """The C core is not built."""


class MapError(EmuError):
    """A region that does not fit the memory map."""


class Overlap(MapError):
    """Two regions of one priority claim the same addresses."""


class BadImage(EmuError):
    """A file that cannot be loaded."""

    status = 126


class DeviceError(EmuError):
    """A device or board that is wrongly put together."""


class AccelError(EmuError):
    """An accelerator that cannot do what was asked."""


class Unavailable(AccelError):
    """The host lacks what the accelerator needs."""


class Unsupported(AccelError):
    """The accelerator can never do this."""


class GuestFault(EmuError):
    """The guest did what no engine can continue from.

    cpu: the number of the CPU that did it, None where that says nothing; report: several lines for people,
    the state of that CPU, or "".
    """

    status = 1

    def __init__(self, text: str, *, cpu: int | None = None, report: str = "") -> None:
        super().__init__(text)
        self.cpu = cpu
        self.report = report


def nearest(word: str, known: "Iterable[str]") -> str:
    """What may have been meant by a word that is not known, for a message: " (did you mean x?)", or ""."""
    from difflib import get_close_matches

    names = {name.lstrip("-").lower(): name for name in known}
    found = get_close_matches(word[:64].lstrip("-").lower(), names, 1)
    return f" (did you mean {names[found[0]]}?)" if found else ""
