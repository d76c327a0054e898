"""Roots in archives: a tar of a root (docker export), or of an image and its layers (podman save).

What is unpacked lies in $XDG_CACHE_HOME/emu/roots/NAME-HASH, where changes stay:

    root/           the root
    config.json     what the image says of how it is run

Archives are hostile.  They are unpacked by a child of ours that has the new root as its "/", so that no name
and no link in them leads anywhere else: the kernel sees to that, and names need no rules here.  Devices are
left out.
"""

from __future__ import annotations

import bz2  # noqa: F401  what tarfile imports when it is needed, and then there is no library any more
import errno
import fcntl
import gzip  # noqa: F401
import hashlib
import json
import os
import shutil
import signal
import stat
import sys
import tarfile
import zlib
from lzma import LZMAError

from accel.errors import BadImage, EmuError, Unavailable
from emu.roots import kernel, namespace
from emu.samples.debian import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
# JSON of an archive that is larger is none of an image's.
LONGEST = 16 << 20
BROKEN = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    LZMAError,
    ValueError,
    UnicodeError,
    RecursionError,
    OverflowError,
)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_AS_ROOT = "an archive is unpacked in a user namespace; unpack it yourself, and give the folder"


class Image:
    """A root, and what it says of itself: environment, folder and user."""

    def __init__(self, root: str, config: dict[str, Any]) -> None:
        self.root = root
        self.environ = _texts(config.get("Env"))
        self.workdir = str(config.get("WorkingDir") or "")
        self.user = str(config.get("User") or "")


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def unpacked(path: str, *, fresh: bool = False) -> Image:
    """The archive's root; unpacks it if that has not been done, or again if it shall be fresh.

    Raises EmuError where it is no archive of a root, or there is no room.
    """
    status = os.stat(path)
    name = os.path.basename(path)
    mark = f"{os.path.realpath(path)} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
    folder = f"{name}-{hashlib.sha256(os.fsencode(mark)).hexdigest()[:12]}"
    return kept(folder, name, lambda new: _make(path, new), fresh)


def kept(name: str, title: str, make: Callable[[str], None], fresh: bool) -> Image:
    """The root in the folder of that name, which make() fills where it is not there, or shall be fresh."""
    roots = str(cache() / "roots")
    # Setuid programs in there are the caller's own.
    os.makedirs(roots, mode=0o700, exist_ok=True)
    folder = os.path.join(roots, name)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if fresh or not os.path.isdir(folder):
            _new(folder, make, lock.name)
            print(f"emu: {title} is ready; what changes in it stays in {folder}/root", file=sys.stderr)
    config = {}
    if os.path.exists(f"{folder}/config.json"):
        with open(f"{folder}/config.json") as file:
            config = json.load(file)
    return Image(f"{folder}/root", config)


def _new(folder: str, make: Callable[[str], None], lock: str) -> None:
    new = f"{folder}.part"
    for old in (folder, new):
        _forget(old)
    try:
        os.makedirs(f"{new}/root")
        make(new)
        os.rename(new, folder)
    except BaseException:
        _forget(new)
        os.unlink(lock)
        raise


def _forget(folder: str) -> None:
    """Removes it with all in it, whoever's that is."""
    if os.path.isdir(folder):
        _inside(lambda: shutil.rmtree(folder))


def _make(path: str, new: str) -> None:
    try:
        with open(path, "rb") as file, _opened(path, file) as archive:
            layers, config = _contents(path, archive)
            with open(f"{new}/config.json", "w") as told:
                json.dump(config, told)
            skipped = _inside(lambda: _unpack(path, f"{new}/root", archive, layers))
    except Exception as error:
        if isinstance(error, BROKEN):
            raise BadImage(f"{path}: {error or 'it ends too early'}; it is damaged, or no archive") from None
        if isinstance(error, (KeyError, TypeError, IndexError, AttributeError)):
            raise BadImage(
                f"{path}: its manifest is none of an image's; give what podman save writes"
            ) from None
        if isinstance(error, OSError) and error.errno not in NO_ROOM:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            raise BadImage(
                f"{path}: {where}{error.strerror or error}; it is damaged, or no archive"
            ) from None
        if isinstance(error, OSError):
            raise EmuError(
                f"{path} cannot be unpacked into {os.path.dirname(new)}: {error.strerror};"
                " make room there, or name another folder by XDG_CACHE_HOME"
            ) from None
        raise
    if skipped:
        print(f"emu: {skipped} devices of the archive are left out; /dev has the usual ones", file=sys.stderr)


def _opened(path: str, file: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file)
    except tarfile.TarError:
        file.seek(0)
        if file.read(4) == b"\x28\xb5\x2f\xfd":
            raise BadImage(
                f"{path} is compressed by zstd; zstd -d makes the archive of it that emu reads"
            ) from None
        raise BadImage(f"{path} is neither a folder nor an archive of one") from None


def _contents(path: str, archive: tarfile.TarFile) -> tuple[list[str], dict[str, Any]]:
    """The layers' names, none for a tar of the root itself, and the image's configuration."""
    first = archive.next()
    names: set[str] = set()
    # A root has thousands of members, an image dozens: what begins like one is looked at as a whole.
    while first is not None and len(names) < 100:
        names.add(first.name)
        first = archive.next()
    if "manifest.json" in names:
        manifest = _json(path, archive, "manifest.json")[0]
        layers, config = manifest["Layers"], _json(path, archive, manifest["Config"])
    elif "index.json" in names and "oci-layout" in names:
        manifest = _chosen(path, archive, _json(path, archive, "index.json"))
        layers = [_blob(layer) for layer in manifest["layers"]]
        config = _json(path, archive, _blob(manifest["config"]))
    else:
        return [], {}
    if not _texts(layers) == layers or not layers:
        raise BadImage(f"{path}: its manifest names no layers")
    return layers, config.get("config") or {}


def _json(path: str, archive: tarfile.TarFile, name: str) -> Any:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise BadImage(f"{path}: the image has no {name}")
    return json.loads(file.read(LONGEST))


def _blob(descriptor: Any) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/", 1)


def _chosen(path: str, archive: tarfile.TarFile, index: Any, depth: int = 0) -> Any:
    """The manifest of an index: of several platforms the first that is foreign and known."""
    from accel.choice import host
    from isa.arch import UnknownArch, canonical

    found: list[tuple[bool, bool, int]] = []
    for entry in index["manifests"]:
        try:
            arch = canonical(entry.get("platform", {}).get("architecture", ""))
        except UnknownArch:
            arch = ""
        found.append((not arch, arch == host(), len(found)))
    if not found:
        raise BadImage(f"{path}: its index names no image")
    entry = index["manifests"][min(found)[2]]
    document = _json(path, archive, _blob(entry))
    if "manifests" in document and depth < 3:
        return _chosen(path, archive, document, depth + 1)
    return document


def _unpack(path: str, root: str, archive: tarfile.TarFile, layers: list[str]) -> int:
    """In a process of its own, which never leaves the new root again; the number of devices left out."""
    os.chroot(root)
    os.chdir("/")
    os.umask(0o022)
    if not layers:
        return _lay(archive)
    skipped = 0
    for name in layers:
        try:
            file = archive.extractfile(name)
        except KeyError:
            file = None
        if file is None:
            raise BadImage(f"{path}: the image has no {name}, one of its layers")
        with _opened(f"{path}, layer {name}", file) as layer:
            skipped += _lay(layer)
    return skipped


def _lay(archive: tarfile.TarFile) -> int:
    """One layer on what is there."""
    skipped = 0
    folders: list[tuple[str, tarfile.TarInfo]] = []
    mine: set[str] = set()  # what this layer has brought: a whiteout hides only what was below
    for member in archive:
        path = "/" + "/".join(part for part in member.name.split("/") if part not in ("", ".", ".."))
        parent, name = os.path.split(path)
        if name.startswith(WHITEOUT):
            hidden = _children(parent) if name == OPAQUE else [os.path.join(parent, name[len(WHITEOUT) :])]
            for each in hidden:
                if each not in mine:
                    _remove(each)
            continue
        if member.ischr() or member.isblk():
            skipped += 1
            continue
        os.makedirs(parent, exist_ok=True)
        mine.update(_ways(path))
        if member.isdir():
            if path != "/" and (os.path.islink(path) or not os.path.isdir(path)):
                _remove(path)
                os.mkdir(path, 0o700)
            folders.append((path, member))
            continue
        if path == "/":
            continue
        _remove(path)
        if member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            os.link("/" + member.linkname.lstrip("/"), path, follow_symlinks=False)
        elif member.isfifo():
            os.mkfifo(path)
        else:
            data = archive.extractfile(member)
            with open(path, "xb") as file:
                if data is not None:
                    shutil.copyfileobj(data, file, 1 << 20)
        if not member.islnk():
            _dress(path, member)
    for path, member in reversed(folders):  # now that nothing is written into them any more
        _dress(path, member)
    return skipped


def _ways(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)


def _children(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except OSError:
        return []


def _remove(path: str) -> None:
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass


def _dress(path: str, member: tarfile.TarInfo) -> None:
    """Owner, mode and time."""
    try:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    except OSError:
        pass  # a user that this one cannot give files to: they stay root's
    if not member.issym():
        os.chmod(path, member.mode & 0o7777)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _inside(work: Callable[[], Any]) -> Any:
    """Has a child do it that is root of its own user namespace; what it returns or raises."""
    import pickle

    mapping = namespace.Mapping.of_caller()
    if os.geteuid() and (obstacle := namespace.obstacle()):
        raise Unavailable(f"{obstacle}, and {NOT_AS_ROOT}")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid():
                namespace.move(mapping, kernel.CLONE_NEWUSER)
            done: tuple[bool, Any] = True, work()
        except BaseException as error:
            done = False, error
        try:
            with open(write, "wb") as pipe:
                pipe.write(pickle.dumps(done))
        finally:
            os._exit(0)
    os.close(write)
    try:
        with open(read, "rb") as pipe:
            data = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)  # or it would go on in what is cleared away
        raise
    finally:
        os.waitpid(child, 0)
    if not data:
        raise EmuError("what unpacks the archive was killed")
    good, value = pickle.loads(data)
    if good:
        return value
    raise value
