"""Text from outside: what Redis, a terminal and a log can take."""

from __future__ import annotations

import pytest

from cronq.safetext import printable, shortened, storable


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no")


class Loop(Exception):
    def __str__(self) -> str:
        return str(self)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("plain é 日本", "plain é 日本"),
        ("cannot read \udcff.txt", "cannot read \\udcff.txt"),
        ("a\0b", "a\\x00b"),
        (b"\xff\xfe ok", "\\xff\\xfe ok"),
        (ValueError("broken"), "broken"),
        (Unspeakable(), "<Unspeakable whose text cannot be made>"),
        (Loop(), "<Loop whose text cannot be made>"),
        (7, "7"),
    ],
)
def test_anything_becomes_text_that_redis_can_keep(value: object, kept: str) -> None:
    assert storable(value) == kept
    storable(value).encode()


def test_of_a_long_text_head_and_end_are_kept() -> None:
    kept = storable("head" + "x" * 10_000_000 + "end", most=100)

    assert kept.startswith("head")
    assert kept.endswith("end")
    assert len(kept) == 100
    assert shortened("short", 100) == "short"


def test_printable_is_one_line_without_escape_sequences() -> None:
    assert printable("a\x1b[31mred\r\nFINISH forged\x07\u202e") == "a�[31mred  FINISH forged��"
    assert printable("as it is") == "as it is"
