"""`emu shell` on archives: of roots and images, and on those that mean harm."""

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu.roots import namespace
from tests.cli.test_shell import lay, run


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if cause := namespace.obstacle():
        pytest.skip(cause)
    root = lay(tmp_path_factory.mktemp("archive") / "root")
    (root / "etc/word").write_text("word\n")
    (root / "bin/twin").hardlink_to(root / "bin/busybox")
    (root / "closed").mkdir(mode=0o500)
    (root / "closed/setuid").write_text("")
    (root / "closed/setuid").chmod(0o4755)
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/emu/roots"


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """What there is, by name."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            status = path.lstat()
            link = path.readlink() if path.is_symlink() else ""
            text = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            what = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, int(status.st_mtime))
            found[str(path.relative_to(root))] = (*what, link, hashlib.sha256(text).digest())
    return found


@pytest.mark.parametrize("options", ["-c", "-cz"])
def test_a_root_is_unpacked_as_tar_does(options: str, laid: Path, tmp_path: Path, cache: Path) -> None:
    archive = tmp_path / "root.tar"
    subprocess.run(["tar", options, "-f", archive, "-C", laid, "."], check=True)
    plain = tmp_path / "plain"
    plain.mkdir()
    subprocess.run(["tar", "-xp", "-f", archive, "-C", plain], check=True)
    done = run("--read-only", archive, "cat", "/etc/word")
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert done.stderr == f"emu: root.tar is ready; what changes in it stays in {folder}/root\n"
    assert done.stdout == "word\n"
    assert cache.stat().st_mode & 0o777 == 0o700
    ours, theirs = tree(folder / "root"), tree(plain)
    for name in set(ours) - set(theirs):  # the places that something is mounted at
        assert name in ("proc", "sys", "dev", "tmp", "etc/resolv.conf")
    mounted = {"etc", "tmp"}
    assert {name: ours.get(name) for name in theirs if name not in mounted} == {
        name: what for name, what in theirs.items() if name not in mounted
    }


def test_what_was_changed_stays_until_it_shall_be_fresh(laid: Path, tmp_path: Path, cache: Path) -> None:
    archive = tmp_path / "root.tar"
    subprocess.run(["tar", "-cf", archive, "-C", laid, "bin", "etc"], check=True)
    assert run(archive, "sh", "-c", "echo new > /etc/word").returncode == 0
    again = run(archive, "cat", "/etc/word")
    assert (again.stdout, again.stderr) == ("new\n", "")
    fresh = run("--fresh", archive, "cat", "/etc/word")
    assert (fresh.stdout, fresh.stderr.count("is ready")) == ("word\n", 1)


def packed(members: list[tuple[tarfile.TarInfo, bytes]], compression: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    made.uid, made.gid = os.geteuid(), os.getegid()
    return made


def base(laid: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A root with a shell, for images of several layers."""
    shell = (laid / "bin/busybox").read_bytes()
    links = [(member(f"bin/{name}", tarfile.SYMTYPE, "busybox"), b"") for name in ("sh", "ls", "cat", "pwd")]
    return [(member("bin/busybox"), shell), *links]


UPPER = ["etc/a", "etc/b", "opt/x/y", "opt/z", "way/file"]
CONFIG = {
    "architecture": "arm64",
    "config": {"Env": ["WORD=of the image", "PATH=/bin"], "WorkingDir": "/opt", "Cmd": ["never"]},
}


def layers(laid: Path) -> list[bytes]:
    """Files, and a layer that hides some and brings others."""
    lower = base(laid) + [(member(name), b"lower\n") for name in UPPER]
    upper = [
        (member("etc/.wh.a"), b""),
        (member("etc/b"), b"upper\n"),
        (member("opt/new"), b"upper\n"),
        (member("opt/.wh..wh..opq"), b""),  # what comes with it counts, wherever it stands
        (member("way", tarfile.SYMTYPE, "opt"), b""),
    ]
    return [packed(lower, "gz"), packed(upper)]


def docker(parts: list[bytes]) -> bytes:
    names = [f"{number}/layer.tar" for number in range(len(parts))]
    manifest = [{"Config": "config.json", "RepoTags": ["x"], "Layers": names}]
    return image([("manifest.json", manifest), ("config.json", CONFIG), *zip(names, parts, strict=True)])


def oci(parts: list[bytes]) -> bytes:
    blobs: list[tuple[str, Any]] = []

    def blob(data: Any) -> dict[str, Any]:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        digest = hashlib.sha256(raw).hexdigest()
        blobs.append((f"blobs/sha256/{digest}", raw))
        return {"digest": f"sha256:{digest}", "size": len(raw)}

    manifest = blob({"config": blob(CONFIG), "layers": [blob(part) for part in parts]})
    wrong = blob({"config": blob({}), "layers": []})
    platforms = [
        wrong | {"platform": {"architecture": "s390x"}},
        manifest | {"platform": {"architecture": "arm64"}},
    ]
    index = {"manifests": [blob({"manifests": platforms})]}
    return image([("oci-layout", {}), ("index.json", index), *blobs])


def image(files: list[tuple[str, Any]]) -> bytes:
    return packed(
        [
            (member(name), data if isinstance(data, bytes) else json.dumps(data).encode())
            for name, data in files
        ]
    )


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", [docker, oci])
def test_an_image_s_layers_make_a_root_that_is_as_it_says(
    kind: Callable[[list[bytes]], bytes], laid: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(kind(layers(laid)))
    done = run(archive, "sh", "-c", "pwd; echo $WORD; ls /etc; cat /etc/b; ls; ls /way/new")
    assert done.stdout == "/opt\nof the image\nb\nresolv.conf\nupper\nnew\n/way/new\n", done.stderr


# Each writes to or reads "outside", a folder beside the root, if names are believed.
HOSTILE: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "up": [(member("../../../../../../../../../../{outside}/file"), b"x")],
    "absolute": [(member("/{outside}/file"), b"x")],
    "link": [(member("way", tarfile.SYMTYPE, "/{outside}"), b""), (member("way/file"), b"x")],
    "link up": [(member("way", tarfile.SYMTYPE, "../" * 20 + "{outside}"), b""), (member("way/file"), b"x")],
    "chain": [
        (member("a", tarfile.SYMTYPE, "."), b""),
        (member("a/b", tarfile.SYMTYPE, ".."), b""),
        (member("a/b/c", tarfile.SYMTYPE, "../" * 20 + "{outside}"), b""),
        (member("a/b/c/file"), b"x"),
    ],
    "hard link": [(member("way", tarfile.LNKTYPE, "/{outside}/secret"), b""), (member("way"), b"x")],
    "hard link up": [(member("way", tarfile.LNKTYPE, "../" * 20 + "{outside}/secret"), b"")],
    "through a link": [
        (member("way", tarfile.SYMTYPE, "/{outside}/secret"), b""),
        (member("other", tarfile.LNKTYPE, "way"), b""),
        (member("other"), b"x"),
    ],
    "folder": [
        (member("way", tarfile.SYMTYPE, "/{outside}"), b""),
        (member("way", tarfile.DIRTYPE, mode=0o777), b""),
    ],
    "whiteout": [(member("way", tarfile.SYMTYPE, "/{outside}"), b""), (member("way/.wh.secret"), b"")],
    "opaque": [(member("way", tarfile.SYMTYPE, "/{outside}"), b""), (member("way/.wh..wh..opq"), b"")],
    "device": [(member("disk", tarfile.BLKTYPE), b""), (member("memory", tarfile.CHRTYPE), b"")],
}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_does_not_reach_outside(name: str, laid: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "secret").write_text("secret\n")
    before = tree(tmp_path)
    bad = []
    for each, data in HOSTILE[name]:
        place = str(outside).lstrip("/")
        bad.append(
            (member(each.name.format(outside=place), each.type, each.linkname.format(outside=place)), data)
        )
    archive = tmp_path / "bad.tar"
    archive.write_bytes(packed(base(laid) + bad))
    done = run(archive, "sh", "-c", "cat /way /other /way/secret; ls /")
    assert "secret\n" not in done.stdout
    after = {path: what for path, what in tree(tmp_path).items() if path.startswith("outside")}
    assert after == {path: what for path, what in before.items() if path.startswith("outside")}
    if name == "device":
        assert "2 devices of the archive are left out" in done.stderr
        assert "disk" not in done.stdout


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "it is empty": lambda root: b"",
    "half of it": lambda root: root[: len(root) // 2],
    "half of it, packed": lambda root: packed([(member("x"), root)], "gz")[:-1000],
    "no archive": lambda root: b"#!/bin/sh\nexit 0\n",
    "zstd": lambda root: b"\x28\xb5\x2f\xfd" + bytes(100),
    "no layers": lambda root: image(
        [("manifest.json", [{"Config": "config.json", "Layers": []}]), ("config.json", {})]
    ),
    "a layer that is not there": lambda root: image(
        [("manifest.json", [{"Config": "config.json", "Layers": ["x"]}]), ("config.json", {})]
    ),
    "a layer that is none": lambda root: image(
        [("manifest.json", [{"Config": "c", "Layers": ["x"]}]), ("c", {}), ("x", b"no layer")]
    ),
    "another manifest": lambda root: image([("manifest.json", {"a": 1})]),
    "a manifest of words": lambda root: image([("manifest.json", b"words")]),
    "no configuration": lambda root: image(
        [("manifest.json", [{"Config": "c", "Layers": ["x"]}]), ("x", root)]
    ),
    "an index without an end": lambda root: image([("oci-layout", {}), ("index.json", b"[" * 100_000)]),
    "no image": lambda root: image([("oci-layout", {}), ("index.json", {"manifests": []})]),
    "a file below a file": lambda root: packed([(member("a"), b""), (member("a/b"), b"")]),
    "a name with a zero": lambda root: (
        root[:512].replace(b"bin/busybox", b"bin/\xff\xfe/../x", 1) + root[512:]
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_told_in_a_line_and_leaves_nothing(
    name: str, laid: Path, tmp_path: Path, cache: Path
) -> None:
    archive = tmp_path / "bad.tar"
    archive.write_bytes(BROKEN[name](packed(base(laid))))
    done = run(archive, "sh", "-c", "exit 9")
    assert done.returncode in (2, 126), done.stderr
    assert done.stderr.startswith(f"emu: {archive}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(cache.iterdir())


def test_a_full_disk_is_told_and_leaves_nothing(laid: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    archive = tmp_path / "root.tar"
    archive.write_bytes(packed(base(laid)))
    script = (
        f'mount -t tmpfs -o size=1m none {tmp_path}/small; "$@"; s=$?; find {tmp_path}/small -type d; exit $s'
    )
    before = ("unshare", "--user", "--mount", "--map-root-user", "sh", "-c", script, "sh")
    done = run(archive, "sh", before=before, env={**os.environ, "XDG_CACHE_HOME": f"{tmp_path}/small"})
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 2
    assert done.stderr == (
        f"emu: {archive} cannot be unpacked into {tmp_path}/small/emu/roots: No space left on device;"
        " make room there, or name another folder by XDG_CACHE_HOME\n"
    )
    assert done.stdout.splitlines() == [f"{tmp_path}/small{end}" for end in ("", "/emu", "/emu/roots")]
