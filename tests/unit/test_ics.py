"""An .ics file becomes dates: whole days, some hours, repeating events, and what is no calendar."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from cronq.definitions.ics import dates_of_ics
from cronq.errors import ConfigError, DefinitionError
from cronq.timetext import parse_instant

NOW = parse_instant("2026-12-01T00:00")


def ics(*events: str) -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN"]
    for number, event in enumerate(events):
        lines += ["BEGIN:VEVENT", f"UID:{number}@test", "DTSTAMP:20260101T000000Z", *event.split("|"), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()


def read(*events: str, **options: Any) -> list[str]:
    pytest.importorskip("icalendar")
    pytest.importorskip("recurring_ical_events")
    return dates_of_ics(ics(*events), NOW, **options)


def test_a_whole_day_is_that_day_and_its_end_is_not_part_of_it() -> None:
    assert read("DTSTART;VALUE=DATE:20261225|DTEND;VALUE=DATE:20261227") == ["2026-12-25", "2026-12-26"]
    assert read("DTSTART;VALUE=DATE:20261225") == ["2026-12-25"]


def test_hours_make_the_days_that_they_touch() -> None:
    assert read("DTSTART:20261225T220000Z|DTEND:20261226T000000Z") == ["2026-12-25"]
    assert read("DTSTART:20261225T220000Z|DTEND:20261226T000001Z") == ["2026-12-25", "2026-12-26"]
    assert read("DTSTART:20261225T220000Z|DTEND:20261225T230000Z", tz="Asia/Tokyo") == ["2026-12-26"]


def test_what_repeats_is_resolved_for_five_years_without_its_exceptions() -> None:
    found = read("DTSTART;VALUE=DATE:20201225|RRULE:FREQ=YEARLY|EXDATE;VALUE=DATE:20281225")

    assert found == [f"{year}-12-25" for year in (2026, 2027, 2029, 2030)]


def test_what_is_past_is_left_out_and_nothing_is_an_empty_list() -> None:
    assert read("DTSTART;VALUE=DATE:20200101") == []
    assert read() == []


def test_too_many_days_are_refused() -> None:
    daily = ["DTSTART;VALUE=DATE:20261201|DTEND;VALUE=DATE:20991231"]
    with pytest.raises(DefinitionError, match="more than 5,000 days"):
        read(*daily)


@pytest.mark.parametrize(
    "raw", [b"", b"whatever", b"\x00\xff", b"BEGIN:VCALENDAR\r\n", ics("DTSTART:soon"), ics("SUMMARY:no start")]
)
def test_what_is_no_calendar_is_refused_in_one_line(raw: bytes) -> None:
    pytest.importorskip("icalendar")
    pytest.importorskip("recurring_ical_events")

    with pytest.raises(DefinitionError, match="it is no iCalendar file") as refused:
        dates_of_ics(raw, NOW)

    assert "\n" not in str(refused.value)


def test_a_missing_library_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name in ("icalendar", "recurring_ical_events"):
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(ConfigError, match=r"pip install 'cronq-rq\[ics\]'"):
        dates_of_ics(ics(), NOW)
