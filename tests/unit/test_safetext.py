"""Text from outside: what Redis, a terminal and a log can take."""

from __future__ import annotations

import logging

import pytest

from cronq.safetext import OneLine, printable, printable_lines, shortened, storable


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


def test_the_lines_of_a_traceback_stay_lines() -> None:
    assert printable_lines("one\n\x1b[2Jtwo\r\n") == "one\n\N{REPLACEMENT CHARACTER}[2Jtwo \n"


def test_no_line_of_a_log_begins_like_an_event_but_events(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("cronq.test")
    try:
        raise ValueError("x\nFINISH payroll succeeded\x1b[2J")
    except ValueError:
        logger.exception("run %s", "a\nFINISH payroll succeeded\x1b]0;owned\x07")

    lines = OneLine("%(message)s").format(caplog.records[-1]).split("\n")

    assert lines[0].startswith("run a FINISH payroll")
    assert all(line.startswith("  ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)
