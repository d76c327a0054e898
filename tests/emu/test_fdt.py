"""Device trees, read back by a parser of our own here and by U-Boot's in test_uboot.py."""

import struct

import pytest

from accel.errors import DeviceError
from emu.loader.fdt import Node, flatten, reg


def unflatten(blob):
    """The tree of a blob as nested dicts, by the letter of the Devicetree Specification v0.4, chapter 5."""
    magic, total, structure, strings, reservations, version, last, cpu, size_strings, size_structure = (
        struct.unpack_from(">10I", blob)
    )
    assert (magic, version, last, cpu) == (0xD00DFEED, 17, 16, 0)
    assert total == len(blob)
    assert reservations % 8 == 0
    assert structure % 4 == 0
    assert blob[reservations : reservations + 16] == bytes(16)
    assert strings + size_strings <= total
    assert structure + size_structure <= total
    at = structure

    def word():
        nonlocal at
        (value,) = struct.unpack_from(">I", blob, at)
        at += 4
        return value

    def node():
        nonlocal at
        end = blob.index(b"\0", at)
        name = blob[at:end].decode()
        at = end + 1 + (-(end + 1) % 4)
        content = {}
        while True:
            token = word()
            if token == 3:
                length, offset = word(), word()
                key = blob[strings + offset : blob.index(b"\0", strings + offset)].decode()
                content[key] = blob[at : at + length]
                at += length + -length % 4
            elif token == 1:
                child, inner = node()
                content[child] = inner
            elif token == 2:
                return name, content
            else:
                raise AssertionError(token)

    assert word() == 1
    name, content = node()
    assert (name, word()) == ("", 9)
    assert at == structure + size_structure
    return content


def test_values_are_encoded_by_kind():
    root = Node()
    root["cell"] = 0x12345678
    root["cells"] = [1, 2]
    root["string"] = "abc"
    root["strings"] = ["a", "bc"]
    root["bytes"] = b"\1\2\3"
    root["there"] = True
    root["nothing"] = []
    assert unflatten(flatten(root)) == {
        "cell": b"\x12\x34\x56\x78",
        "cells": b"\0\0\0\1\0\0\0\2",
        "string": b"abc\0",
        "strings": b"a\0bc\0",
        "bytes": b"\1\2\3",
        "there": b"",
        "nothing": b"",
    }


def test_nodes_are_named_by_phandles_where_they_are_used():
    root = Node()
    clock = root.node("clock")
    other = root.node("other")
    user = root.node("user")
    user["clocks"] = [clock, 3, other]
    root["parent"] = clock
    tree = unflatten(flatten(root))
    assert tree["clock"]["phandle"] != tree["other"]["phandle"]
    assert tree["user"]["clocks"] == tree["clock"]["phandle"] + b"\0\0\0\3" + tree["other"]["phandle"]
    assert tree["parent"] == tree["clock"]["phandle"]
    assert "phandle" not in tree["user"]


def test_a_child_of_a_name_is_made_once():
    root = Node()
    assert root.node("soc") is root.node("soc")
    assert [node.name for node in root.walk()] == ["", "soc"]


def test_addresses_are_pairs_of_cells():
    assert reg(0x1_2345_6789, 0x1000) == [1, 0x2345_6789, 0, 0x1000]


def test_room_is_left_at_the_end():
    assert len(flatten(Node(), room=0x1000)) - len(flatten(Node())) == 0x1000


@pytest.mark.parametrize("value", [1 << 32, -1, 1.5, None, [1, "a"], False])
def test_what_is_no_property_is_refused(value):
    root = Node()
    root["wrong"] = value
    with pytest.raises(DeviceError, match="device tree: wrong holds"):
        flatten(root)
