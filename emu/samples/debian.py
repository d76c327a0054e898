"""Programs of Debian's for another architecture, fetched through the host's apt into emu's cache.

apt gets a state of its own, so neither root nor a change of the host is needed, and checks every file against
the hashes that Debian signed.  Nothing is installed: packages are only unpacked.

    python -m emu.samples.debian [--closure] PACKAGE ... ARCHITECTURE        prints the folder
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from accel.errors import Unavailable
from emu import folders

_ABOUT = "Unpacks Debian packages of any architecture into emu's cache and prints the folder."
# Seconds after which a network that does not answer is given up.
_UPDATE, _DOWNLOAD = 60, 300


def cache() -> Path:
    """Where emu keeps what it fetched."""
    return Path(folders.cache())


def unpacked(packages: str | Sequence[str], architecture: str, *, closure: bool = False) -> Path:
    """The folder that `packages` of Debian's `architecture` are unpacked in; fetches them if it is not there.

    packages: one, or several for one folder.  closure: with all they depend on, so that the folder can be a
    sysroot.
    Raises Unavailable, with the reason, where apt is missing, nothing can be reached, or the host's package
    sources do not have them.
    """
    folder = place(packages, architecture, closure=closure)
    if not folder.is_dir():
        names = _names(packages)
        with _explained(names, architecture):
            _fetch(names, architecture, folder, closure)
    return folder


def archives(packages: Sequence[str], architecture: str, folder: Path) -> list[Path]:
    """The archives of packages, and of all they depend on, fetched into `folder`, which must be empty.

    packages: also apt's patterns, as ?essential.  Raises Unavailable as unpacked() does.
    """
    with _explained(list(packages), architecture):
        _download(list(packages), architecture, folder, closure=True)
    (folder / "partial").rmdir()
    return sorted(folder.glob("*.deb"))


@contextmanager
def _explained(names: list[str], architecture: str) -> Iterator[None]:
    """What went wrong with apt or dpkg, as Unavailable."""
    try:
        yield
        return
    except (subprocess.SubprocessError, OSError) as error:
        reason = _reason(error)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    raise Unavailable(f"{names[0]}:{architecture}{more} cannot be fetched: {reason}")


def _reason(error: Exception) -> str:
    """Why apt or dpkg did not do what they were asked for."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} was still waiting after {error.timeout:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        said = [line for line in error.stderr.splitlines() if line.startswith(("E:", "W:", "dpkg-deb:"))]
        return f"{error.cmd[0]} says {said[-1]}" if said else f"{error.cmd[0]} failed ({error.returncode})"
    tools = ("apt-get", "apt-cache", "dpkg-deb", "tar")
    if isinstance(error, OSError) and error.filename in tools:
        return f"{error.filename} is missing on this host"
    return str(error)


def place(packages: str | Sequence[str], architecture: str, *, closure: bool = False) -> Path:
    """Where unpacked() puts packages: under their name, or one made of all the names."""
    names = _names(packages)
    name = names[0]
    if len(names) > 1:
        name = f"{name}-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:12]}"
    return cache() / "debian" / architecture / (f"{name}+closure" if closure else name)


def _names(packages: str | Sequence[str]) -> list[str]:
    return [packages] if isinstance(packages, str) else sorted(set(packages))


def current(package: str, architecture: str) -> str:
    """The package that an empty one stands for: linux-image-arm64's is the kernel of today.

    Raises Unavailable as unpacked() does.
    """
    try:
        options = _options(architecture)
        asked = ["apt-cache", *options, "depends", "--important", package]
        try:
            lines = _run(asked, ".", _UPDATE)
        except subprocess.CalledProcessError:  # nothing was ever fetched
            _run(["apt-get", "-qq", *options, "update"], ".", _UPDATE)
            lines = _run(asked, ".", _UPDATE)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"{package}:{architecture} cannot be looked up: {_reason(error)}") from None
    for line in lines.splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and not name.startswith("<"):
            return name
    raise Unavailable(f"{package}:{architecture} stands for no other package")


def sources(architecture: str) -> str:
    """The lines of a sources.list for a guest: where this host's apt finds Debian's packages."""
    found: dict[tuple[str, str], list[str]] = {}
    asked = ["apt-get", *_options(architecture), "indextargets", "--format"]
    asked += ["$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)", "Identifier: Packages"]
    with _explained(["sources"], architecture):
        for line in _run(asked, ".", _UPDATE).splitlines():
            origin, address, suite, component = line.split(" ", 3)
            parts = urlsplit(address)
            if origin == "Debian" and parts.scheme in ("http", "https"):
                # Without a user's name and password, which are the host's.
                address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
                found.setdefault((address, suite), []).append(component)
    return "".join(f"deb {address} {suite} {' '.join(names)}\n" for (address, suite), names in found.items())


def _options(architecture: str) -> list[str]:
    """What gives apt a state of its own, in emu's cache."""
    state = cache() / "debian" / architecture / ".apt"
    for name in ("lists", "cache"):
        (state / name / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()  # nothing is installed
    return [
        f"-oAPT::Architecture={architecture}",
        f"-oAPT::Architectures={architecture}",
        f"-oDir::State::Lists={state / 'lists'}",
        f"-oDir::Cache={state / 'cache'}",
        # Containers often have it switched off, and then every question parses the lists.
        "-oDir::Cache::pkgcache=pkgcache.bin",
        "-oDir::Cache::srcpkgcache=",
        f"-oDir::State::status={state / 'status'}",
        # root's apt would else switch to a user who may not write into root's cache.
        "-oAPT::Sandbox::User=root",
        "-oAcquire::http::Timeout=15",
        "-oAcquire::https::Timeout=15",
        "-oAcquire::Retries=0",
    ]


def _fetch(packages: list[str], architecture: str, folder: Path, closure: bool) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{packages[0]}-") as made:
        _download(packages, architecture, Path(made), closure)
        files = Path(made) / "files"
        files.mkdir()
        if closure:
            lay_out(files)
        for archive in sorted(Path(made).glob("*.deb")):
            unpack(archive, files)
        accounts(files)
        try:
            files.rename(folder)
        except OSError:
            # Somebody else was as fast; theirs is as good.
            if not folder.is_dir():
                raise


def _download(packages: list[str], architecture: str, folder: Path, closure: bool) -> None:
    """The packages' archives, into `folder`; closure: with all they depend on, and an empty `partial`."""
    apt = ["apt-get", "-qq", *_options(architecture)]
    download = ["download"]
    if closure:
        (folder / "partial").mkdir()
        download = [f"-oDir::Cache::archives={folder}", "-oDebug::NoLocking=1", "install", "--download-only"]
        download += ["-y", "--no-install-recommends"]
    # While a mirror is being renewed some lists fail; the others, or those of before, may be enough.
    stale = None
    try:
        _run([*apt, "update"], str(folder), _UPDATE)
    except subprocess.CalledProcessError as error:
        stale = error
    try:
        _run([*apt, *download, *packages], str(folder), _DOWNLOAD)
    except subprocess.CalledProcessError as error:
        raise stale or error from None


def lay_out(root: Path) -> None:
    """As Debian's own roots: packages still name /bin, and programs look in /usr/bin."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def accounts(root: Path) -> None:
    """Debian's users and groups, which base-passwd would write when it is installed."""
    for name in ("passwd", "group"):
        master, file = root / "usr/share/base-passwd" / f"{name}.master", root / "etc" / name
        if master.exists() and not file.exists():
            file.parent.mkdir(exist_ok=True)
            shutil.copyfile(master, file)


def _run(command: list[str], folder: str, seconds: int) -> str:
    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=True, timeout=seconds
    ).stdout


def unpack(archive: Path, folder: Path) -> list[tuple[str, int, int]]:
    """As dpkg does when it installs: links to directories stay links, modes are the package's.

    The files become the caller's; returns the names of folders that shall be others', with user and group.
    """
    with tempfile.TemporaryFile() as tar:
        subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(archive)],
            stdout=tar, stderr=subprocess.PIPE, check=True, text=True, timeout=_DOWNLOAD,
        )  # fmt: skip
        tar.seek(0)
        subprocess.run(
            ["tar", "-xp", "--keep-directory-symlink", "--no-same-owner", "-C", str(folder)],
            stdin=tar, capture_output=True, check=True, text=True, timeout=_DOWNLOAD,
        )  # fmt: skip
        tar.seek(0)
        with tarfile.open(fileobj=tar, mode="r:") as members:
            return [
                (member.name, member.uid, member.gid)
                for member in members
                if member.isdir() and (member.uid or member.gid)
            ]


def main() -> int:
    """The command line in this module's first lines."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m emu.samples.debian", description=_ABOUT)
    parser.add_argument("--closure", action="store_true", help="with all they depend on, as a sysroot")
    parser.add_argument("package", nargs="+")
    parser.add_argument("architecture", help="Debian's name: arm64, armhf, amd64 ...")
    words = parser.parse_args()
    try:
        print(unpacked(words.package, words.architecture, closure=words.closure))
    except Unavailable as error:
        print(f"emu: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
