"""Files as they are: read whole, and put at an address."""

from __future__ import annotations

from pathlib import Path

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
    file = Path(path)
    try:
        if not file.is_file():
            kind = "a directory" if file.is_dir() else "no regular file"
            cause = f"is {kind}" if file.exists() else "does not exist"
            raise WrongFile(f"{what} {path} {cause}; give the path of a file")
        size = file.stat().st_size
        if size == 0:
            raise WrongFile(f"{what} {path} is empty; give the path of an image")
        if limit is not None and size > limit:
            raise WrongFile(
                f"{what} {path} has {size:#x} bytes, and there is room for {limit:#x}; use a smaller image"
            )
        return file.read_bytes()
    except OSError as error:
        raise WrongFile(f"{what} {path} cannot be read: {error.strerror}") from None
    except MemoryError:
        raise WrongFile(
            f"{what} {path} has {size:#x} bytes, more than this host has; use a smaller image"
        ) from None


class WrongFile(BadImage):
    """A file that cannot be taken for what it is given as: a wrong use of the command."""

    status = 2
