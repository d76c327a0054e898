"""Debian's packages in emu's cache, without a network: what apt would fetch is put there by the test."""

from __future__ import annotations

from emu.samples import debian


def test_the_first_package_makes_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))

    def download(packages, architecture, folder, closure):
        (folder / "hello.deb").write_bytes(b"")

    monkeypatch.setattr(debian, "_download", download)
    monkeypatch.setattr(debian, "unpack", lambda archive, folder: (folder / archive.name).touch())
    folder = debian.unpacked("hello", "arm64")
    assert folder == tmp_path / "not/there/emu/debian/arm64/hello"
    assert [path.name for path in folder.iterdir()] == ["hello.deb"]
    assert [path.name for path in folder.parent.iterdir()] == ["hello"]
