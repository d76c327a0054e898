"""The scripts that set everything up, as far as they can be tried without a network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# What the scripts may call besides the interpreter and the compiler: POSIX, and mktemp.
TOOLS = ["cat", "cksum", "dirname", "env", "find", "id", "mktemp", "rm", "sed", "sh", "sort", "tail", "xargs"]
SCRIPTS = ["scripts/demo", "scripts/test", "scripts/setup", "examples/libvirt_tour.sh"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_one_to_the_plainest_shell(name: str) -> None:
    subprocess.run(["sh", "-n", ROOT / name], check=True, timeout=60)


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_no_complaint(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed, whose opinion this is")
    subprocess.run(["shellcheck", "-x", "-s", "sh", ROOT / name], cwd=ROOT, check=True, timeout=60)


def run(name: str, tmp_path: Path, tools: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a script of a copy of the tree's outside, on a host that has only `tools`, each a shell script."""
    tree = tmp_path / "clone"
    shutil.copytree(ROOT / "scripts", tree / "scripts")
    for file in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / file, tree)
    for package in ("accel", "emu"):
        (tree / package / "native").mkdir(parents=True)
        (tree / package / "native" / "build.py").write_text("")
    bin = tmp_path / "bin"
    bin.mkdir()
    for tool in TOOLS:
        (bin / tool).symlink_to(shutil.which(tool) or "/missing")
    for tool, text in tools.items():
        (bin / tool).write_text(f"#!/bin/sh\n{text}\n")
        (bin / tool).chmod(0o755)
    environ = {"PATH": str(bin), "HOME": str(tmp_path), "EMU_NO_APT": "1"}
    sh = shutil.which("sh") or "/bin/sh"
    return subprocess.run(
        [sh, tree / name], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", ["scripts/demo", "scripts/test"])
def test_without_a_new_enough_python_the_remedy_is_one_line(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, {"python3": "exit 1"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"{tmp_path}/clone/{name}: Python 3.11 or newer is needed")


def test_without_a_compiler_the_remedy_is_one_line(tmp_path: Path) -> None:
    done = run("scripts/demo", tmp_path, {"python3": "exit 0", "cc": "exit 1"})
    assert done.returncode == 1
    assert "apt-get install gcc libc6-dev python3-dev" in done.stderr.splitlines()[-1]


def test_pip_s_failure_is_the_script_s_and_leaves_nothing_that_looks_installed(tmp_path: Path) -> None:
    python = """
        case "$*" in *"pip install"*) echo "no network" >&2; exit 1;; esac
        case "$*" in
        "-m venv .venv") mkdir -p .venv/bin; : >.venv/pyvenv.cfg; cp "$0" .venv/bin/python;;
        esac"""
    real = {name: f'exec /bin/{name} "$@"' for name in ("mkdir", "cp")}
    done = run("scripts/demo", tmp_path, {"python3": python, "cc": "exit 0", **real})
    assert done.returncode == 1
    assert "no network" in done.stderr
    assert "pip could not fetch what emu needs" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "clone" / ".venv" / "installed").exists()


def test_continuous_integration_calls_the_command_of_the_readme() -> None:
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
