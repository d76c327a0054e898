"""Options within options, as QEMU splits them."""

import pytest

from accel.errors import DeviceError
from emu.keyval import Options, split


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("a,b=c", ["a", "b=c"]),
        ("a,,b,c", ["a,b", "c"]),
        ("a,,,b", ["a,", "b"]),
        ("", [""]),
        ("a,", ["a", ""]),
    ],
)
def test_single_commas_divide_and_doubled_ones_are_one(words, parts):
    assert split(words) == parts


def test_the_first_word_needs_no_name_and_switches_without_a_value_are_on():
    options = Options(
        "x=y.img,readonly,size=3", "--drive", ("size",), first="file", switches=("readonly", "cold")
    )
    assert options.word("file") == "x=y.img"
    assert options.switch("readonly")
    assert not options.switch("cold")
    assert options.word("size") == "3"


def test_an_option_may_come_again():
    assert Options("user,fwd=a,fwd=b", "--net", ("fwd",), first="kind")["fwd"] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("disk,colour=red", "no option is called 'colour'"),
        ("disk,readonly=perhaps", "readonly=perhaps; use on or off"),
        ("disk,size", "name=value"),
        ("disk,readonly,readonly=off", "once"),
    ],
)
def test_what_is_not_known_is_said_in_one_line(words, text):
    with pytest.raises(DeviceError, match=text) as caught:
        Options(words, "--drive", ("size",), first="file", switches=("readonly",)).switch("readonly")
    assert "\n" not in str(caught.value)


def test_a_drive_is_a_file_with_options(tmp_path):
    from emu.drive import open_drive

    (tmp_path / "d,isk").write_bytes(bytes(1 << 20))
    words = f"{tmp_path}/d,,isk,format=raw,readonly=on,serial=abc"
    disk = open_drive(words)
    assert (disk.image.size, disk.image.info().read_only, disk.serial) == (1 << 20, True, "abc")
    disk.close()
    for words in ("readonly=on", f"{tmp_path}/d,,isk,if=ide", f"{tmp_path}/none"):
        with pytest.raises(Exception, match=r"--drive|none") as caught:
            open_drive(words)
        assert "\n" not in str(caught.value)
