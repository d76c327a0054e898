"""The shape of the tree: who may import whom, what files may be called, what a start may load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From left to right; nothing imports to its right.
ARROW = ("isa", "accel", "emu")
# Names that say nothing about what is inside.
VAGUE = ("util", "helper", "manager", "common")

SOURCES = sorted(path for package in ARROW for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> list[str]:
    """The modules that a file imports, anywhere in it, relative imports resolved."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                package = path.relative_to(ROOT).parts[: -node.level]
                names.append(".".join((*package, node.module or "")))
            else:
                names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_imports_to_its_right(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    right = ARROW[ARROW.index(package) + 1 :]
    assert [name for name in imported(path) if name.split(".")[0] in right] == []


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "isa")], ids=name_of)
def test_isa_needs_only_the_standard_library_and_names_no_engine(path: Path) -> None:
    allowed = {"isa", *sys.stdlib_module_names}
    assert [name for name in imported(path) if name.split(".")[0] not in allowed] == []
    text = path.read_text().lower()
    assert [engine for engine in ("unicorn", "kvm_", "capstone") if engine in text] == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("the tree is not a git clone, so its files cannot be told from what was built in it")
    vague = [
        name for name in tracked.stdout.splitlines() if any(word in Path(name).stem.lower() for word in VAGUE)
    ]
    assert vague == []


def test_the_code_map_is_true() -> None:
    """Each name in it is a file of its folder, and no folder of the three packages is left out."""
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Code map")[2]
    folder, folders, missing = "", set(), []
    for line in text.split("```")[1].splitlines():
        head, _, rest = line.partition(" ")
        if head:
            folder = head
            folders.add(folder)
        names = re.findall(r"[\w*/]+\.(?:py|c|h|tbl)\b", rest)
        missing += [folder + name for name in names if not list((ROOT / folder).glob(name))]
    assert missing == []
    assert {f"{path.parent.relative_to(ROOT)}/" for path in SOURCES} - folders == set()


@pytest.mark.parametrize("package", ARROW)
def test_every_package_opens_with_what_it_is(package: str) -> None:
    bare = [
        name_of(path)
        for path in SOURCES
        if path.is_relative_to(ROOT / package) and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert bare == []
