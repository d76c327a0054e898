"""Debian's installer for arm64 on the serial line: its screens as a terminal shows them."""

import pyte
import pytest

from emu import Machine
from tests.emu.linux_guest import Screen, package

FILES = "usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64"
DOWN, ENTER = b"\x1b[B", b"\r"


class Terminal(Screen):
    """A terminal of 80 by 24 characters."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.Screen(80, 24)
        self.stream = pyte.ByteStream(self.screen)
        self.fed = 0

    def shows(self, words: str) -> bool:
        self.stream.feed(bytes(self.sent[self.fed :]))
        self.fed = len(self.sent)
        return words in self.picture

    @property
    def picture(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)


@pytest.mark.slow
def test_the_installer_asks_for_a_language_and_takes_the_answer():
    folder = package("debian-installer-12-netboot-arm64") / FILES
    line = Terminal()
    with Machine(
        "virt", accel="tcg", ram=512 << 20, kernel=folder / "linux", initrd=folder / "initrd.gz",
        append="console=ttyAMA0", serial=line,
    ) as machine:  # fmt: skip

        def screen(words: str, seconds: float) -> str:
            """The picture with all of a screen, which ends with the line of help at the bottom."""
            done = machine.run(timeout=seconds, until=lambda: line.shows(words) and line.shows("<Tab> moves"))
            assert done.reason == "until", line.picture or line.text[-2000:]
            return line.picture

        first = screen("Select a language", 600)
        assert "Choose the language to be used for the installation process." in first
        assert "English" in first
        assert "<Go Back>" in first
        line.type(ENTER)  # what it stands on: C, which has no second question about language
        assert "Select your location" in screen("Select your location", 300)
