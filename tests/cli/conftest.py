"""The user who follows README and the documentation."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli.pages import place


@pytest.fixture
def user(tmp_path: Path) -> dict[str, Any]:
    return place(tmp_path)
