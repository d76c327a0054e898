"""qcow2 images beside qemu-img: its images read and written here, ours checked and read there."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess

import pytest

import emu.block
from emu.block import BlockError
from emu.drive import open_drive

MIB = 1 << 20


@pytest.fixture(scope="module")
def qemu_img():
    """qemu_img(word ...) -> its output."""
    program = shutil.which("qemu-img")
    if program is None:
        pytest.skip("no qemu-img (qemu-utils)")

    def run(*words):
        done = subprocess.run(
            [program, *map(str, words)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def sound(qemu_img, tmp_path):
    """sound(path, model): qemu-img finds nothing wrong, and the same contents; nor does our own check."""

    def hold(path, model):
        qemu_img("check", "-f", "qcow2", path)
        report = emu.block.check(path)
        assert (report.errors, report.leaks) == (0, 0)
        raw = tmp_path / "model.raw"
        raw.write_bytes(model)
        qemu_img("compare", "-f", "qcow2", "-F", "raw", path, raw)

    return hold


def exercise(image, model, rng, count=120, unit=512):
    """Random requests to the image and to its model, which answer the same."""
    size = len(model)
    for _ in range(count):
        offset = rng.randrange(size) // unit * unit
        length = min(rng.choice((512, 4096, 8192, 70000, 300000)) // unit * unit or unit, size - offset)
        what = rng.randrange(10)
        if what < 5:
            data = rng.randbytes(length)
            image.write(offset, data)
            model[offset : offset + length] = data
        elif what == 5:
            image.write_zeroes(offset, length, may_unmap=bool(rng.randrange(2)))
            model[offset : offset + length] = bytes(length)
        elif what == 6:
            image.discard(offset, length)
            model[offset : offset + length] = image.read(offset, length)
        elif what == 7 and rng.random() < 0.3:
            image.flush()
        else:
            assert image.read(offset, length) == model[offset : offset + length]
    assert image.read(0, size) == model


@pytest.mark.parametrize("cluster_size", [512, 4096, 65536, 2 * MIB])
@pytest.mark.parametrize(("version", "bits"), [(2, 16), (3, 16), (3, 1), (3, 2), (3, 8), (3, 64)])
def test_an_image_of_ours_is_sound_after_random_requests(tmp_path, sound, cluster_size, version, bits):
    path = tmp_path / "disk.qcow2"
    size = 5 * MIB + 512
    emu.block.create(path, size, cluster_size=cluster_size, version=version, refcount_bits=bits)
    model = bytearray(size)
    rng = random.Random(cluster_size * version * bits)
    for _ in range(2):
        with emu.block.open(path, discard=True) as image:
            assert image.info().refcount_bits == bits
            exercise(image, model, rng)
    sound(path, model)


QEMUS = [
    *(f"compat={v},cluster_size={c}" for v in ("0.10", "1.1") for c in (512, 4096, 65536, 2 * MIB)),
    *(f"refcount_bits={bits}" for bits in (1, 2, 4, 8, 32, 64)),
    "lazy_refcounts=on",
    "preallocation=metadata",
    "preallocation=falloc",
    "preallocation=full,cluster_size=4096",
    "compression_type=zstd",
]


@pytest.mark.parametrize("options", QEMUS)
def test_an_image_of_qemus_is_read_and_written(tmp_path, qemu_img, sound, options):
    path = tmp_path / "disk.qcow2"
    size = 4 * MIB + 1024
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, size)
    model = bytearray(size)
    with emu.block.open(path, discard=True) as image:
        assert image.size == size
        exercise(image, model, random.Random(options))
    sound(path, model)


@pytest.mark.parametrize(
    "options", ["compression_type=zlib", "compression_type=zstd", "cluster_size=4096", "cluster_size=2M"]
)
def test_compressed_clusters_are_read_and_replaced(tmp_path, qemu_img, sound, options):
    path, raw = tmp_path / "disk.qcow2", tmp_path / "disk.raw"
    rng = random.Random(options)
    words = [rng.randbytes(rng.randrange(3, 40)) for _ in range(50)]
    model = bytearray(b"".join(rng.choice(words) * rng.randrange(1, 9) for _ in range(60000))[: 5 * MIB])
    model[MIB : 2 * MIB] = rng.randbytes(MIB)
    raw.write_bytes(model)
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, raw, path)
    with emu.block.open(path, read_only=True) as image:
        assert image.read(0, len(model)) == model
        for _ in range(200):
            offset = rng.randrange(len(model) - 5000)
            assert image.read(offset, 5000) == model[offset : offset + 5000]
    with emu.block.open(path, discard=True) as image:
        exercise(image, model, rng)
    sound(path, model)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kinds", ["raw", "qcow2", "raw qcow2", "qcow2 qcow2"])
def test_images_on_images_are_read_through_and_copied_from(tmp_path, qemu_img, sound, kinds, version):
    """The lowest is smaller than the next: behind its end are zeroes."""
    rng = random.Random(kinds)
    size = 3 * MIB
    model = bytearray(rng.randbytes(size))
    lowest = tmp_path / "base.raw"
    lowest.write_bytes(model)
    below, below_format = "base.raw", "raw"
    if kinds.split()[0] == "qcow2":
        qemu_img("convert", "-O", "qcow2", lowest, tmp_path / "base.qcow2")
        below, below_format = "base.qcow2", "qcow2"
    for which in range(len(kinds.split())):
        path = tmp_path / f"over{which}.qcow2"
        size += MIB
        model += bytes(MIB)
        emu.block.create(
            path, size, backing=below, backing_format=below_format, version=version, cluster_size=8192
        )
        before = (tmp_path / below).read_bytes()
        with emu.block.open(path, discard=True) as image:
            assert image.info().backing == str(tmp_path / below)
            exercise(image, model, rng)
        sound(path, model)
        assert (tmp_path / below).read_bytes() == before
        below, below_format = path.name, "qcow2"


def test_snapshots_keep_what_they_had(tmp_path, qemu_img, sound):
    path = tmp_path / "disk.qcow2"
    size = 3 * MIB
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", path, size)
    model, rng, kept = bytearray(size), random.Random(1), {}
    for name in ("one", "two", "three"):
        with emu.block.open(path, discard=True) as image:
            exercise(image, model, rng)
        sound(path, model)
        qemu_img("snapshot", "-c", name, path)
        kept[name] = bytes(model)
    with emu.block.open(path, discard=True) as image:
        assert image.info().snapshots == 3
        exercise(image, model, rng)
        with pytest.raises(BlockError, match="snapshots"):
            image.resize(MIB)
    sound(path, model)
    for name in ("two", "three", "one"):
        qemu_img("snapshot", "-a", name, path)
        sound(path, kept[name])
    qemu_img("snapshot", "-d", "two", path)
    model = bytearray(kept["one"])
    with emu.block.open(path, discard=True) as image:
        exercise(image, model, rng)
    sound(path, model)


@pytest.mark.parametrize("cache", ["none", "writethrough", "unsafe"])
def test_every_cache_mode_writes_the_same(tmp_path, sound, cache):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, 4 * MIB, cluster_size=2048)
    model = bytearray(4 * MIB)
    with emu.block.open(path, cache=cache, discard=True) as image:
        assert image.info().cache == cache
        exercise(image, model, random.Random(cache))
    sound(path, model)


@pytest.mark.parametrize("cluster_size", [512, 65536])
@pytest.mark.parametrize("version", [2, 3])
def test_an_image_changes_its_size(tmp_path, sound, cluster_size, version):
    path, rng = tmp_path / "disk.qcow2", random.Random(cluster_size)
    emu.block.create(path, MIB, cluster_size=cluster_size, version=version)
    model = bytearray(MIB)
    for size in (3 * MIB + 512, 2 * MIB + 1024, 20 * MIB, 0, 2 * MIB):
        emu.block.resize(path, size)
        model = model[:size] + bytes(max(0, size - len(model)))
        with emu.block.open(path) as image:
            assert image.size == size
            if size:
                exercise(image, model, rng, 40)
        sound(path, model)


def test_what_is_added_does_not_show_what_is_behind(tmp_path, sound):
    rng = random.Random(2)
    (tmp_path / "base.raw").write_bytes(base := rng.randbytes(3 * MIB))
    for version in (2, 3):
        path = tmp_path / f"v{version}.qcow2"
        emu.block.create(path, MIB + 512, backing="base.raw", backing_format="raw", version=version)
        emu.block.resize(path, 4 * MIB)
        sound(path, base[: MIB + 512] + bytes(3 * MIB - 512))


@pytest.mark.parametrize("preallocation", ["metadata", "falloc"])
@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_a_preallocated_image_is_zero_and_sound(tmp_path, qemu_img, sound, preallocation, cluster_size):
    path = tmp_path / "disk.qcow2"
    size = 9 * MIB
    emu.block.create(path, size, preallocation=preallocation, cluster_size=cluster_size)
    sound(path, model := bytearray(size))
    mapped = json.loads(qemu_img("map", "--output=json", path))
    assert all(piece["depth"] == 0 and "offset" in piece for piece in mapped)
    assert (path.stat().st_blocks * 512 >= size) == (preallocation == "falloc")
    with emu.block.open(path) as image:
        exercise(image, model, random.Random(3), 100)
    sound(path, model)


def test_a_table_of_refcounts_grows(tmp_path, qemu_img, sound):
    """With clusters of 512 bytes the first counts 8 MiB (64-bit counts: 2 MiB) only."""
    path = tmp_path / "disk.qcow2"
    size = 24 * MIB
    emu.block.create(path, size, cluster_size=512, refcount_bits=64)
    model, rng = bytearray(size), random.Random(4)
    with emu.block.open(path) as image:
        for offset in range(0, size, MIB // 2):
            model[offset : offset + MIB // 4] = data = rng.randbytes(MIB // 4)
            image.write(offset, data)
    sound(path, model)


def test_what_is_discarded_is_used_again(tmp_path, sound):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, 16 * MIB)
    with emu.block.open(path, discard=True) as image:
        for which in range(8):
            image.write(0, bytes([which + 1]) * (4 * MIB))
            image.discard(0, 4 * MIB)
            image.flush()
        assert path.stat().st_size < 6 * MIB
        image.write(MIB, b"x" * 512)
        image.flush()
        assert image.info().allocated < MIB
    sound(path, bytes(MIB) + b"x" * 512 + bytes(15 * MIB - 512))


def test_a_header_keeps_what_we_do_not_know(tmp_path, qemu_img):
    """A persistent bitmap is an extension that only its own feature bit may make invalid."""
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, MIB)
    qemu_img("bitmap", "--add", path, "changes")
    before = path.read_bytes()[:512]
    with emu.block.open(path) as image:
        image.write(0, b"x" * 512)
    after = path.read_bytes()[:512]
    assert after[:88] + after[96:] == before[:88] + before[96:]
    assert before[95] & 1 == 1
    assert after[95] & 1 == 0


def test_counts_that_nobody_wrote_are_set_right_before_writing(tmp_path, qemu_img, sound):
    """As after a crash with lazy refcounts: the dirty bit is set, counts are missing."""
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, 4 * MIB, cluster_size=4096, lazy_refcounts=True)
    model = bytearray(4 * MIB)
    with emu.block.open(path) as image:
        exercise(image, model, random.Random(5))
    with path.open("r+b") as file:
        header = file.read(104)
        table = int.from_bytes(header[48:56], "big")
        file.seek(table)
        block = int.from_bytes(file.read(8), "big")
        file.seek(block + 16)
        counts = bytearray(file.read(4096 - 16))
        counts[200:] = bytes(len(counts) - 200)
        counts[3] = 2
        file.seek(block + 16)
        file.write(counts)
        file.seek(79)
        file.write(b"\1")
    with emu.block.open(path, read_only=True) as image:
        assert image.info().dirty
        assert image.read(0, len(model)) == model
    with emu.block.open(path) as image:
        assert not image.info().dirty
        exercise(image, model, random.Random(6))
    sound(path, model)


def test_a_repaired_image_is_sound_for_qemu_as_well(tmp_path, sound):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, 4 * MIB, cluster_size=4096)
    model = bytearray(4 * MIB)
    with emu.block.open(path) as image:
        exercise(image, model, random.Random(7))
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        counts = bytearray(file.read(400))
        counts[101] = 0
        counts[201] = 5
        counts[321] = 2
        file.seek(4096 * 2)
        file.write(counts)
    report = emu.block.check(path)
    assert report.errors >= 1
    assert report.leaks == 2
    repaired = emu.block.check(path, repair=True)
    assert repaired.repaired == repaired.errors + repaired.leaks
    sound(path, model)


def test_two_do_not_write_one_image(tmp_path, qemu_img):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, MIB)
    with emu.block.open(path):
        with pytest.raises(BlockError, match="another process"):
            emu.block.open(path)
        done = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "lock" in done.stderr
        assert emu.block.info(path).size == MIB


def test_images_that_share_their_backing_file_are_open_together(tmp_path):
    base = tmp_path / "base.qcow2"
    emu.block.create(base, MIB)
    for name in "ab":
        emu.block.create(tmp_path / name, backing="base.qcow2", backing_format="qcow2")
    with emu.block.open(tmp_path / "a") as a, emu.block.open(tmp_path / "b") as b:
        a.write(0, b"a" * 512)
        b.write(0, b"b" * 512)
        with pytest.raises(BlockError, match="another process"):
            emu.block.open(base)


WORDS = {
    "cluster_bits": (20, (33).to_bytes(4, "big")),
    "no cluster_bits": (20, (0).to_bytes(4, "big")),
    "encrypted": (32, (1).to_bytes(4, "big")),
    "L1 outside": (40, (1 << 40).to_bytes(8, "big")),
    "L1 unaligned": (40, (0x30001).to_bytes(8, "big")),
    "L1 over the header": (40, (0).to_bytes(8, "big")),
    "L1 too short": (36, (0).to_bytes(4, "big")),
    "L1 absurd": (36, (0xFFFFFFFF).to_bytes(4, "big")),
    "refcounts outside": (48, (1 << 50).to_bytes(8, "big")),
    "refcounts over L1": (48, (0x30000).to_bytes(8, "big")),
    "refcounts absurd": (56, (0x7FFFFFFF).to_bytes(4, "big")),
    "size absurd": (24, (1 << 63).to_bytes(8, "big")),
    "size larger than L1": (24, (1 << 50).to_bytes(8, "big")),
    "snapshots absurd": (60, (0xFFFFFF).to_bytes(4, "big")),
    "snapshots outside": (60, (2).to_bytes(4, "big") + (1 << 45).to_bytes(8, "big")),
    "version": (4, (9).to_bytes(4, "big")),
    "features": (72, (1 << 40).to_bytes(8, "big")),
    "data file": (72, (4).to_bytes(8, "big")),
    "subclusters": (72, (16).to_bytes(8, "big")),
    "corrupt": (72, (2).to_bytes(8, "big")),
    "refcount_order": (96, (7).to_bytes(4, "big")),
    "header_length": (100, (1 << 30).to_bytes(4, "big")),
    "backing name outside": (8, (1 << 33).to_bytes(8, "big") + (7).to_bytes(4, "big")),
    "backing name absurd": (8, (512).to_bytes(8, "big") + (0xFFFFFFFF).to_bytes(4, "big")),
    "extension": (104, b"\1\2\3\4\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("what", WORDS)
def test_a_header_that_lies_is_refused_in_one_line(tmp_path, what):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, MIB)
    at, lie = WORDS[what]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(lie)
    with pytest.raises(BlockError) as raised:
        emu.block.open(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"disk.qcow2", "its own backing file"),
        (b"./disk.qcow2", "its own backing file"),
        (b"missing", "No such file"),
        (b"json:{}", "not on this host"),
        (b"nbd:localhost:1", "not on this host"),
        (b"/dev/zero", "a file or a block device"),
        (b"a\nb\x1b[", "a?b?"),
        (b".", "a file or a block device"),
    ],
)
def test_a_backing_file_that_cannot_be_is_refused(tmp_path, name, reason):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, MIB)
    with path.open("r+b") as file:
        file.seek(8)
        file.write((1024).to_bytes(8, "big") + len(name).to_bytes(4, "big"))
        file.seek(1024)
        file.write(name)
    with pytest.raises(BlockError) as raised:
        emu.block.open(path, read_only=True)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_ring_of_backing_files_is_refused(tmp_path):
    for name, below in zip("abc", "bca", strict=True):
        emu.block.create(tmp_path / name, MIB)
        with (tmp_path / name).open("r+b") as file:
            file.seek(8)
            file.write((1024).to_bytes(8, "big") + (1).to_bytes(4, "big"))
            file.seek(1024)
            file.write(below.encode())
    with pytest.raises(BlockError):
        emu.block.open(tmp_path / "a", lock=False)


def test_more_images_on_each_other_than_we_follow_are_refused(tmp_path):
    emu.block.create(tmp_path / "0", MIB)
    for which in range(1, 64):
        emu.block.create(tmp_path / str(which), MIB, backing=str(which - 1), backing_format="qcow2")
    emu.block.open(tmp_path / "63").close()
    emu.block.create(tmp_path / "64", MIB, backing="63", backing_format="qcow2")
    emu.block.create(tmp_path / "65", MIB, backing="64", backing_format="qcow2")
    with pytest.raises(BlockError, match="64 images"):
        emu.block.open(tmp_path / "65")


def test_backing_files_can_be_forbidden(tmp_path):
    emu.block.create(tmp_path / "base", MIB)
    emu.block.create(tmp_path / "over", backing="base", backing_format="qcow2")
    with pytest.raises(BlockError, match="forbidden"):
        emu.block.open(tmp_path / "over", backing="none")
    emu.block.open(tmp_path / "base", backing="none").close()


def test_an_image_does_not_bring_files_of_other_folders_with_it(tmp_path):
    for folder in ("own", "own/below", "other"):
        (tmp_path / folder).mkdir()
    secret = tmp_path / "other" / "secret"
    secret.write_bytes(b"s" * 4096)
    (tmp_path / "own" / "link").symlink_to(secret)
    for beside in ("own/base", "own/below/base"):
        (tmp_path / beside).write_bytes(b"b" * 4096)
    image = tmp_path / "own" / "image"

    def stands_on(name: str, **rule: str) -> bytes:
        image.unlink(missing_ok=True)
        emu.block.create(image, 4096, backing=name, backing_format="raw")
        with emu.block.open(image, **rule) as opened:
            return opened.read(0, 4)

    for name in ("base", "below/base", str(tmp_path / "own" / "base"), "../own/base"):
        assert stands_on(name, backing="beside") == b"bbbb"
    for name in ("../other/secret", str(secret), "link"):
        assert stands_on(name) == b"ssss"
        with pytest.raises(BlockError, match="say backing=any") as caught:
            stands_on(name, backing="beside")
        assert "\n" not in str(caught.value)
        with pytest.raises(BlockError, match="say backing=any"):
            open_drive(f"{image},format=qcow2")
        open_drive(f"{image},format=qcow2,backing=any").close()


def test_a_guest_cannot_name_a_file_of_the_hosts_through_its_raw_base(tmp_path, qemu_img):
    """An overlay that does not say its base's format; the base's guest wrote a header of its own there."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * MIB)
    qemu_img("create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", tmp_path / "base", MIB)
    emu.block.create(tmp_path / "over", MIB)
    with (tmp_path / "over").open("r+b") as file:
        file.seek(8)
        file.write((1024).to_bytes(8, "big") + (4).to_bytes(4, "big"))
        file.seek(1024)
        file.write(b"base")
    with pytest.raises(BlockError, match="nobody says the format"):
        emu.block.open(tmp_path / "over")


def entries(path, at, values):
    with path.open("r+b") as file:
        file.seek(at)
        for value in values:
            file.write(value.to_bytes(8, "big"))


COPIED = 1 << 63
PLACES = {
    "outside the file": 1 << 45,
    "unaligned": 0x50200,
    "the header": 0,
    "L1": 0x30000,
    "refcounts": 0x20000,
    "itself": 0x40000,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_table_that_lies_costs_an_error_and_nothing_else(tmp_path, place):
    """The entry of the second cluster of data points to where it must not."""
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, MIB)
    with emu.block.open(path) as image:
        image.write(0, b"a" * 2 * 65536)
    before = path.read_bytes()
    assert int.from_bytes(before[0x30000:0x30008], "big") == 0x40000 | COPIED
    host = PLACES[place]
    entries(path, 0x40008, [(host or 512) | COPIED] if place == "unaligned" else [host | COPIED])
    tables = bytearray(path.read_bytes()[: 0x40000 + 65536])
    with emu.block.open(path) as image:
        assert image.read(0, 512) == b"a" * 512
        if place == "the header":
            return  # an offset of 0 is a hole
        with pytest.raises(BlockError):
            image.write(65536 + 512, b"b" * 512)
    with path.open("rb") as file:
        after = bytearray(file.read(len(tables)))
    # All that may change is the bit that says so.
    after[72:80] = tables[72:80]
    after[88:96] = tables[88:96]
    assert after == tables


def test_a_count_of_zero_for_a_table_does_not_give_it_to_data(tmp_path):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, MIB)
    with path.open("r+b") as file:
        file.seek(0x20000)
        file.write(bytes(8))
    with emu.block.open(path) as image, pytest.raises(BlockError):
        image.write(0, b"x" * 512)
    with pytest.raises(BlockError, match="corrupt"):
        emu.block.open(path)
    assert path.read_bytes()[:4] == b"QFI\xfb"


def test_a_file_that_was_cut_off_is_refused_or_read_to_its_end(tmp_path):
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, MIB)
    with emu.block.open(path) as image:
        image.write(0, b"a" * MIB)
    whole = path.read_bytes()
    for size in itertools.chain(range(0, 600, 37), range(600, len(whole), 40000)):
        path.write_bytes(whole[:size])
        try:
            with emu.block.open(path, format="qcow2", read_only=True) as image:
                image.read(0, MIB)
        except BlockError as error:
            assert "\n" not in str(error)  # noqa: PT017 (it need not fail)
        else:
            assert size > len(whole) - 65536


def test_create_refuses_what_no_image_has(tmp_path):
    path = tmp_path / "disk"
    for options in (
        {"size": 100},
        {"size": -512},
        {},
        {"size": MIB, "cluster_size": 1000},
        {"size": MIB, "version": 4},
        {"size": MIB, "version": 2, "refcount_bits": 8},
        {"size": MIB, "refcount_bits": 7},
        {"size": MIB, "format": "vmdk"},
        {"size": MIB, "format": "raw", "preallocation": "metadata"},
        {"size": MIB, "backing": "base"},
        {"size": MIB, "backing": "base", "backing_format": "raw"},
        {"size": 1 << 50, "cluster_size": 512},
    ):
        with pytest.raises(BlockError) as raised:
            emu.block.create(path, **options)
        assert "\n" not in str(raised.value)
        assert not path.exists()
    emu.block.create(path, MIB)
    with pytest.raises(BlockError, match="remove it"):
        emu.block.create(path, MIB)
    assert emu.block.info(path).size == MIB
