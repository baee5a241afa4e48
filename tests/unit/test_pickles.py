"""A pickle does nothing when it is read: it names data, or what an allowed module itself defines, or it is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import functools
import os
import pickle
import subprocess
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest

from cronq.interop.pickles import PickleRefused, load_data, load_texts, load_within, read_data, read_function

HERE = __name__
DATA = [
    {"a": [1, 2.5, None, True, "ü", b"\x00"], "b": ({1, 2}, frozenset({3}))},
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(5), decimal.Decimal("1.50"),
    uuid.UUID(int=5), collections.OrderedDict(a=1), collections.deque([1]),
]  # fmt: skip


@dataclasses.dataclass
class Mine:
    """A class of this module, which some tests allow."""

    value: Any


class Runs:
    """Calls *function* when it is read."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


borrowed = os.system


def a_function() -> None:
    """A function of this module."""


@pytest.mark.parametrize("value", DATA, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", [4, 5])
def test_data_is_read(value: Any, protocol: int) -> None:
    assert load_data(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize(
    "value",
    [
        Runs(os.system, "true"), Runs(eval, "1"), Runs(exec, "1"), Runs(getattr, "x", "upper"), Runs(__import__, "os"),
        Runs(subprocess.check_output, ["true"]), Runs(open, "/dev/null"), Runs(bytearray, 5), Runs(map, len, []),
        functools.partial(print), Path("x"), Mine(1), a_function, os.system,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(PickleRefused):
        load_data(pickle.dumps({"deep": [value]}))


@pytest.mark.parametrize("raw", [b"", b"junk", b"\x80\x05", pickle.dumps([1])[:-3], b"." * 100, b"cos\nsystem\n."])
def test_damage_is_refused_in_one_line(raw: bytes) -> None:
    with pytest.raises(PickleRefused, match="pickle"):
        load_data(raw)


def test_what_an_allowed_module_defines_is_made() -> None:
    assert load_within(pickle.dumps(Mine(5)), [HERE]) == Mine(5)
    assert load_within(pickle.dumps(a_function), [HERE.rpartition(".")[0]]) is a_function
    assert load_within(pickle.dumps(Path("x")), [HERE]) == Path("x")


@pytest.mark.parametrize("name", ["borrowed", "os.system", "os", "Path", "subprocess.check_output", "Mine.__init__.x"])
def test_what_it_only_imported_is_not(name: str) -> None:
    raw = b"\x80\x04\x8c" + bytes([len(HERE)]) + HERE.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."

    with pytest.raises(PickleRefused):
        load_within(raw, [HERE])


def test_a_module_with_a_similar_name_is_not_allowed() -> None:
    with pytest.raises(PickleRefused):
        load_within(pickle.dumps(Mine(1)), [HERE[:-1]])


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("jobs.add", None, (1,), {}), ("jobs.add", False)),
        (("send", Mine(1), (), {}), ("send", True)),
        (("jobs.add", None, (Runs(os.abort),), {"x": Mine([Runs(os.abort)])}), ("jobs.add", False)),
    ],
)
def test_the_function_of_a_call_is_read_without_making_anything(call: Any, expected: tuple[str, bool]) -> None:
    assert read_function(pickle.dumps(call)) == expected


@pytest.mark.parametrize("value", [5, ("a",), (5, None, (), {}), [1, 2, 3, 4], "x"])
def test_what_is_no_call_is_refused(value: Any) -> None:
    with pytest.raises(PickleRefused):
        read_function(pickle.dumps(value))


def test_a_call_that_would_fill_the_memory_is_not_decompressed() -> None:
    fits, bursts = zlib.compress(b"x" * 1000), zlib.compress(b"x" * 1001)

    assert read_data(fits, 1000) == b"x" * 1000
    with pytest.raises(PickleRefused, match="larger than 1,000 bytes"):
        read_data(bursts, 1000)
    with pytest.raises(PickleRefused, match="cut off"):
        read_data(fits[:-1], 1000)


def test_the_function_of_a_call_is_found_in_its_first_bytes_whatever_follows() -> None:
    endless = zlib.compress(pickle.dumps(("jobs.add", None, (bytes(10**7),), {})))
    poison = b"\x80\x04(\x8c\x08jobs.addN)}(N" + b"\x85" * 300_000 + b"Nut."

    assert read_function(endless[:2000]) == ("jobs.add", False)
    assert read_function(zlib.compress(poison)) == ("jobs.add", False)
    with pytest.raises(PickleRefused):
        read_function(pickle.dumps(("a" * 1001, None, (), {})))


@pytest.mark.parametrize("put", [b"r" + (2**24).to_bytes(4, "little"), b"p16777216\n"])
def test_a_few_bytes_cannot_take_all_memory(put: bytes) -> None:
    with pytest.raises(PickleRefused, match="numbers"):
        load_data(b"(X\x05\x00\x00\x00a.addN)}" + put + b"t.")


def test_what_is_nested_too_deep_to_be_hashed_is_refused() -> None:
    def key(depth: int) -> bytes:
        return b"\x80\x04}(N" + b"\x85" * depth + b"Nu."  # {((((None,),),),): None}

    assert list(load_data(key(900)).values()) == [None]
    with pytest.raises(PickleRefused, match="nested more than 1,000 deep"):
        load_data(key(30_000))


def doubled(make: bytes) -> bytes:
    """Thirty objects, each of which holds the one before it twice."""
    return b"\x80\x04N" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + make for n in range(30))


@pytest.mark.parametrize("raw", [b"\x80\x04}(" + doubled(b"\x86")[2:] + b"Nu.", doubled(b"\x86") + b"."])
def test_a_key_that_would_take_for_ever_to_hash_is_refused(raw: bytes) -> None:
    with pytest.raises(PickleRefused, match="stands for more than"):
        load_data(raw)


def test_lists_that_would_take_for_ever_to_write_out_are_refused() -> None:
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    endless: list[Any] = []
    endless.append(endless)

    for bomb in (value, endless, {"a": value}):
        with pytest.raises(PickleRefused, match="stands for more than"):
            load_data(pickle.dumps(bomb))
    assert load_data(pickle.dumps([[1, "a"]] * 100)) == [[1, "a"]] * 100


def test_more_than_a_meta_can_hold_is_not_read() -> None:
    collisions = pickle.dumps(dict.fromkeys(n * (2**61 - 1) for n in range(40_000)))

    with pytest.raises(PickleRefused, match="too large"):
        load_data(collisions)
    assert len(load_data(pickle.dumps(list(range(50_000))), 1_000_000)) == 50_000


def test_a_call_of_texts_may_be_long_and_holds_nothing_else() -> None:
    call = ("cronq.perform", None, ("invoices", "x" * 10**6), {})

    assert load_texts(pickle.dumps(call), 2_000_000) == call
    for other in ((*call[:3], {1: 2}), ("f", None, (1, 2), {}), ("f", None, ("a",) * 100, {}), [call]):
        with pytest.raises(PickleRefused, match="no call with texts"):
            load_texts(pickle.dumps(other), 2_000_000)
    with pytest.raises(PickleRefused, match="too large"):
        load_texts(pickle.dumps(call), 1000)
