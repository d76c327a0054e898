"""emu.run: a program of another architecture as subprocess.run has it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from subprocess import CalledProcessError, CompletedProcess, TimeoutExpired
from typing import IO, Any, Literal, overload

from emu.linux.process import PIPE, STDOUT, Process

__all__ = ["PIPE", "STDOUT", "CalledProcessError", "CompletedProcess", "TimeoutExpired", "run"]

Words = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@overload
def run(
    args: Words,
    *,
    text: Literal[False] | None = None,
    input: bytes | None = None,
    capture_output: bool = False,
    stdin: IO[Any] | int | None = None,
    stdout: IO[Any] | int | None = None,
    stderr: IO[Any] | int | None = None,
    timeout: float | None = None,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    sysroot: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    accel: str = "auto",
    engine: str | None = None,
) -> CompletedProcess[bytes]: ...
@overload
def run(
    args: Words,
    *,
    text: Literal[True],
    input: str | None = None,
    capture_output: bool = False,
    stdin: IO[Any] | int | None = None,
    stdout: IO[Any] | int | None = None,
    stderr: IO[Any] | int | None = None,
    timeout: float | None = None,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    sysroot: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    accel: str = "auto",
    engine: str | None = None,
) -> CompletedProcess[str]: ...
def run(
    args: Words,
    *,
    text: bool | None = None,
    input: bytes | str | None = None,
    capture_output: bool = False,
    stdin: IO[Any] | int | None = None,
    stdout: IO[Any] | int | None = None,
    stderr: IO[Any] | int | None = None,
    timeout: float | None = None,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    sysroot: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    accel: str = "auto",
    engine: str | None = None,
) -> CompletedProcess[Any]:
    """Runs a Linux program of any ISA and waits for its end: subprocess.run for programs of other ISAs.

    args: the program and its arguments, or the program alone.  What has a name of subprocess.run's is what it
    is there; text is UTF-8.  The rest is Process'.  Raises TimeoutExpired, CalledProcessError (check),
    NoProgram, BadImage, AccelError; whatever is raised finds the program killed.

    >>> run([program, "sh", "-c", "uname -m"], capture_output=True, text=True).stdout
    'aarch64\\n'
    """
    words = [os.fspath(args)] if isinstance(args, str | os.PathLike) else [os.fspath(word) for word in args]
    if input is not None:
        if stdin is not None:
            raise ValueError("stdin and input exclude each other")
        stdin = PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("capture_output excludes stdout and stderr")
        stdout = stderr = PIPE
    given = input.encode() if isinstance(input, str) else input
    with Process(
        words[0],
        words,
        sysroot=sysroot,
        root=root,
        accel=accel,
        engine=engine,
        environ=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    ) as process:
        try:
            code = process.run(given, timeout)
        except TimeoutExpired as error:
            error.output, error.stderr = process.stdout, process.stderr
            raise
        done = CompletedProcess(words, code, _told(process.stdout, text), _told(process.stderr, text))
    if check:
        done.check_returncode()
    return done


def _told(data: bytes | None, text: bool | None) -> Any:
    if data is None or not text:
        return data
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape").read()
