"""Every command and example of the documentation is executed here, as it stands."""

from typing import Any

import pytest

from tests.cli.pages import ROOT, blocks, run_block, run_python

# Pages whose commands need more than a user's folder are executed elsewhere.
ELSEWHERE = {"libvirt.md": "tests/emu/test_libvirt.py"}
PAGES = [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in ELSEWHERE]


@pytest.mark.parametrize("block", [body for page in PAGES for body in blocks(page, "sh")])
def test_a_block_of_commands_runs_from_top_to_bottom(block: str, user: dict[str, Any]) -> None:
    run_block(block, user)


@pytest.mark.parametrize("program", [body for page in PAGES for body in blocks(page, "python")])
def test_a_python_example_runs(program: str, user: dict[str, Any]) -> None:
    run_python(program, user)
