"""A recipe that fails: for test_images."""

from pathlib import Path

from emu.images.progress import Progress


def make(folder: Path, progress: Progress) -> None:
    (folder / "kernel").write_bytes(b"half of it")
    raise FileNotFoundError(2, "No such file", "a file that is missing")
