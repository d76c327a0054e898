"""QMP without sockets: streams of JSON, negotiation, requests, and what signatures make of arguments."""

from __future__ import annotations

import json
from typing import Any, Literal, NotRequired, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.monitor.command import REGISTRY, Command, CommandError, Size, commands
from emu.monitor.json_stream import JsonStream, Malformed
from emu.monitor.qmp import Qmp, Request
from emu.monitor.schema import schema

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


def pieces(data, cuts):
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def values(data, *, chunk=None, **limits):
    stream = JsonStream(**limits)
    found = []
    for at in range(0, len(data), chunk or len(data)):
        stream.feed(data[at : at + (chunk or len(data))])
        found += [str(each) if isinstance(each, Malformed) else each for each in stream.values()]
    return found


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy host is no failure
@given(st.lists(VALUES, max_size=4), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_values_are_the_same_however_the_stream_is_cut(sent, cuts, escaped):
    data = b" ".join(json.dumps(value, ensure_ascii=escaped).encode() for value in sent) + b"\n"
    stream = JsonStream()
    found = []
    for piece in pieces(data, cuts):
        stream.feed(piece)
        found += stream.values()
    assert found == sent


def test_objects_need_nothing_between_them():
    assert values(b'{"a":1}{"b":"}"}[2]"x"{"c":"\\""}') == [{"a": 1}, {"b": "}"}, [2], "x", {"c": '"'}]


@given(st.binary(max_size=60), st.integers(1, 7))
def test_any_bytes_are_values_or_errors(data, chunk):
    values(data + b"\n", chunk=chunk)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"a":"\xff"}', "invalid UTF-8"),
        (b'{"a":\xc3\x28}', "invalid UTF-8"),
        (b"{]", "Expecting"),
        (b'{"a" 1}', "Expecting"),
        (b'{"a":NaN}', "invalid keyword"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":"\\u0000"}', "u0000"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\n"}', "control character"),
        (b'{"a":' + b"9" * 5000 + b"}", "digits"),
        (b"hello ", "Expecting"),
        (b"%\n", "begins no value"),
    ],
)
def test_what_is_no_json_is_told_and_the_next_value_counts(data, error):
    first, *rest = values(data + b'\n{"next":1}')
    assert error in first
    assert rest[-1] == {"next": 1}


def test_a_backslash_before_u0000_is_a_backslash():
    assert values(rb'{"a":"\\u0000 \u00e4"}') == [{"a": "\\u0000 \u00e4"}]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_before_it_is_parsed(opening):
    assert values(opening * 64 + b"1", deepest=64) == []
    (error,) = values(opening * 65, deepest=64)
    assert "64 levels" in error


def test_a_long_string_costs_its_limit_and_no_more():
    stream = JsonStream(longest=1 << 20)
    stream.feed(b'{"a":"')
    kept = 0
    for _ in range(100):
        stream.feed(b"x" * (1 << 20))
        found = list(stream.values())
        kept = max(kept, len(stream._data))
        if found:
            break
    assert found[0].fatal
    assert kept <= 3 << 20


# -- negotiation and requests ---------------------------------------------------------


def told(qmp, text):
    qmp.feed(text.encode())
    return [each if isinstance(each, Request) else json.loads(each) for each in qmp.requests()]


def negotiated():
    qmp = Qmp()
    assert told(qmp, '{"execute":"qmp_capabilities","id":0}') == [{"return": {}, "id": 0}]
    return qmp


def test_the_greeting_has_what_clients_look_at():
    qmp = Qmp()
    greeting = json.loads(qmp.greeting())["QMP"]
    assert set(greeting["version"]["qemu"]) == {"major", "minor", "micro"}
    assert greeting["capabilities"] == []


def test_before_negotiation_every_command_is_not_found():
    (answer,) = told(Qmp(), '{"execute":"query-status","id":"x"}')
    assert (answer["error"]["class"], answer["id"]) == ("CommandNotFound", "x")


@pytest.mark.parametrize("mark", ["1", '"x"', "null", '{"a":[1]}', "1e3"])
def test_any_id_comes_back(mark):
    qmp = negotiated()
    (request,) = told(qmp, f'{{"execute":"stop","id":{mark}}}')
    assert json.loads(qmp.reply(request, None)) == {"return": {}, "id": json.loads(mark)}
    error = json.loads(qmp.error(request, CommandError("no")))
    assert error == {"error": {"class": "GenericError", "desc": "no"}, "id": json.loads(mark)}


def test_a_reply_is_one_line():
    qmp = negotiated()
    (request,) = told(qmp, '{"execute":"x"}')
    assert qmp.reply(request, {"a": "\r\n\u2028"}).count(b"\n") == 1


def test_a_reply_that_no_client_reads_is_an_error():
    qmp = negotiated()
    (request,) = told(qmp, '{"execute":"x"}')
    assert "ask for less" in json.loads(qmp.reply(request, "x" * (11 << 20)))["error"]["desc"]


# -- arguments -------------------------------------------------------------------------

Inner = TypedDict("Inner", {"a-b": int, "c": NotRequired[Literal["x", "y"]]})


def _sample(
    client,
    text: str,
    number: int,
    size: Size = 0,
    flag: bool = False,
    real: float = 0.0,
    kind: Literal["x", "y"] = "x",
    inner: Inner | None = None,
    items: list[int] | None = None,
    either: int | str | None = None,
    from_: Any = None,
) -> dict[str, Any]:
    return {key: value for key, value in locals().items() if key != "client"}


SAMPLE = Command("sample", _sample, ())


def test_arguments_become_parameters():
    given = {"text": "t", "number": -1, "inner": {"a-b": 1}, "items": [1, 2], "either": "e", "from": None}
    got = SAMPLE(None, given)
    assert got["inner"] == {"a-b": 1}
    assert got["from_"] is None
    assert got["either"] == "e"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"text": 1}, "Invalid parameter type for 'text', expected: string"),
        ({"number": "1"}, "Invalid parameter type for 'number', expected: integer"),
        ({"number": 1.0}, "Invalid parameter type for 'number', expected: integer"),
        ({"number": True}, "Invalid parameter type for 'number', expected: integer"),
        ({"number": 1 << 63}, "64 bits"),
        ({"size": -1}, "from 0 to"),
        ({"flag": 1}, "Invalid parameter type for 'flag', expected: boolean"),
        ({"real": "1"}, "Invalid parameter type for 'real', expected: number"),
        ({"kind": "z"}, "Parameter 'kind' does not accept value 'z'"),
        ({"kind": None}, "Invalid parameter type for 'kind', expected: string"),
        ({"inner": {}}, "Parameter 'inner.a-b' is missing"),
        ({"inner": {"a-b": 1, "d": 1}}, "Parameter 'inner.d' is unexpected"),
        ({"inner": {"a-b": "1"}}, "Invalid parameter type for 'inner.a-b', expected: integer"),
        ({"items": 1}, "Invalid parameter type for 'items', expected: array"),
        ({"items": [1, "2"]}, "Invalid parameter type for 'items[1]', expected: integer"),
        ({"either": []}, "Invalid parameter type for 'either', expected: integer or string"),
        ({"other": 1}, "Parameter 'other' is unexpected"),
    ],
)
def test_wrong_arguments_are_told(more, error):
    with pytest.raises(CommandError, match=error.replace("[", r"\[")):
        SAMPLE(None, {"text": "t", "number": 1, **more})


def test_a_missing_argument_is_told():
    with pytest.raises(CommandError, match="'number' is missing"):
        SAMPLE(None, {"text": "t"})


# -- the schema --------------------------------------------------------------------------


def test_the_schema_refers_to_nothing_that_it_does_not_have():
    entries = {entry["name"]: entry for entry in schema()}
    assert len(entries) == len(schema())
    for entry in entries.values():
        wanted = [entry[key] for key in ("arg-type", "ret-type", "element-type") if key in entry]
        wanted += [member["type"] for member in entry.get("members", ()) if "type" in member]
        assert set(wanted) <= set(entries), entry


def test_every_command_is_in_the_schema_and_has_a_text():
    named = {entry["name"] for entry in schema() if entry["meta-type"] == "command"}
    assert named == set(commands())
    assert all(command.text for command in REGISTRY.values())
