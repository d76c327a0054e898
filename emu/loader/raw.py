"""Files as they are: read whole, and put at an address."""

from __future__ import annotations

import os
import stat

from accel.errors import BadImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike

    # A file's path, or the bytes themselves.
    Image = str | PathLike[str] | bytes


def read_image(image: Image, what: str, limit: int | None = None) -> bytes:
    """The bytes of a file, or of what is given instead of one.

    what: "firmware", "kernel", for the message of the WrongFile that one raises which is missing, unreadable,
    empty or too large; limit: in bytes.
    """
    if isinstance(image, bytes):
        if limit is not None and len(image) > limit:
            raise WrongFile(
                f"{what} has {len(image):#x} bytes, and there is room for {limit:#x}; make it smaller"
            )
        return image
    path = image
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise WrongFile(f"{what} {path} is {kind}; give the path of a file")
        size = found.st_size
        if size == 0:
            raise WrongFile(f"{what} {path} is empty; give the path of an image")
        if limit is not None and size > limit:
            raise WrongFile(
                f"{what} {path} has {size:#x} bytes, and there is room for {limit:#x}; use a smaller image"
            )
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise WrongFile(f"{what} {path} does not exist; give the path of a file") from None
    except OSError as error:
        raise WrongFile(f"{what} {path} cannot be read: {error.strerror}") from None
    except MemoryError:
        raise WrongFile(
            f"{what} {path} has {size:#x} bytes, more than this host has; use a smaller image"
        ) from None


class WrongFile(BadImage):
    """A file that cannot be taken for what it is given as: a wrong use of the command."""

    status = 2
