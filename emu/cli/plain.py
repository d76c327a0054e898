"""Options whose words are plain, without argparse, whose import takes as long as building a machine.

Plain are `--name VALUE` and `-n VALUE` in full, switches, and one word that is no option.  For whatever else
there may be (help, abbreviations, --name=VALUE, a mistake) parse() gives nothing, and argparse, given the
same declarations, knows what to do or to say.
"""

from __future__ import annotations

from types import SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Plain:
    """Takes declarations as argparse.ArgumentParser does."""

    def __init__(self) -> None:
        self._options: dict[str, dict[str, Any]] = {}
        self._defaults: dict[str, Any] = {}
        self._word = ""

    def add_argument(self, *names: str, **given: Any) -> None:
        """Declares an option, or the word that is none."""
        if not names[0].startswith("-"):
            self._word = names[0]
            self._defaults[self._word] = None
            return
        name = next(name for name in names if name.startswith("--") or len(names) == 1)
        given["dest"] = name.lstrip("-").replace("-", "_")
        self._defaults[given["dest"]] = False if given.get("action") == "store_true" else given.get("default")
        for each in names:
            self._options[each] = given

    def parse(self, words: list[str]) -> SimpleNamespace | None:
        """What they say; None if that is argparse's to find out."""
        said = {
            name: list(value) if isinstance(value, list) else value for name, value in self._defaults.items()
        }
        rest = iter(words)
        for word in rest:
            if not word.startswith("-"):
                if not self._word or said[self._word] is not None:
                    return None
                said[self._word] = word
                continue
            option = self._options.get(word)
            if option is None:
                return None
            name = option["dest"]
            if option.get("action") == "store_true":
                said[name] = True
                continue
            value: Any = next(rest, "-")
            if value.startswith("-"):
                return None
            try:
                value = option.get("type", str)(value)
            except ValueError:
                return None
            said[name] = [*(said[name] or ()), value] if option.get("action") == "append" else value
        return SimpleNamespace(**said)
