"""Values read from Redis, or from a child, may be anything."""

from __future__ import annotations

import json

import pytest

from cronq.db.decode import MOST_DEPTH, read_json
from cronq.errors import BadValue


@pytest.mark.parametrize("value", [None, 1, 2.5, "words [[[", {"a": [1, {"b": None}]}, [[]] * 1000, '\\"[' * 300])
def test_what_json_can_say_is_read(value: object) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "raw",
    [
        "[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000,
        "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1),
        "NaN", "[Infinity]", "-Infinity", '{"a": 1e400}', "", "{", b"\xff", "9" * 10_000,
    ],
    ids=lambda raw: repr(raw[:12]),
)  # fmt: skip
def test_what_harms_its_reader_is_refused_by_one_error(raw: bytes | str) -> None:
    with pytest.raises(BadValue):
        read_json(raw)


def test_a_text_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(BadValue, match="longer than 10 bytes"):
        read_json("[1,2,3,4,5,6]", most=10)
