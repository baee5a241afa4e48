"""Spans and moments in words, and the server's clock as a beat believes it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronq.clock import HOLD_S, JUMP_S, ServerClock, Stop, boot_s, rest
from cronq.timetext import format_duration, iso, parse_duration_s, parse_instant, rq_stamp, tick_stamp, utc

MOMENT = 1795244400  # 2026-11-21T07:00:00Z
bounded = settings(derandomize=True, deadline=None, max_examples=200)


# Durations


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("42s", 42.0),
        ("5m", 300.0),
        ("0.5m", 30.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("1w", 604800.0),
        ("1h30m", 5400.0),
        ("2d3h4m5s", 2 * 86400 + 3 * 3600 + 4 * 60 + 5.0),
        (" 5m ", 300.0),
        ("0s", 0.0),
        (timedelta(minutes=5), 300.0),
        (timedelta(milliseconds=250), 0.25),
    ],
)
def test_a_duration_may_be_written_in_many_ways(written: Any, seconds: float) -> None:
    assert parse_duration_s(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        "", " ", ".", "5 m", "5min", "5M", "m5", "1h 30m", "1h30", "-5", "-5m", "1e3", "soon", "nan", "inf", "1:30",
        "999999w", -1, -0.001, 10**12, float("nan"), float("inf"), timedelta(seconds=-1), True, False, None, b"5",
        [5], {"s": 5}, pytest.param("9" * 400, id="400 nines"), pytest.param(10**400, id="10**400"),
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_by_its_value(written: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration") as refusal:
        parse_duration_s(written)

    assert repr(written) in str(refusal.value)


def test_a_refused_duration_says_how_to_write_one() -> None:
    with pytest.raises(ValueError, match="write seconds, '5m', '1h30m' or a timedelta"):
        parse_duration_s("five minutes")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"), (0.0004, "0s"), (0.00001, "0s"), (0.005, "0.005s"), (0.21, "0.21s"), (0.999, "1s"), (1, "1s"),
        (1.26, "1.3s"), (9.94, "9.9s"), (9.96, "10s"), (10.4, "10s"), (42, "42s"), (59.6, "1m"), (60, "1m"),
        (90, "1m30s"), (300, "5m"), (3599.7, "1h"), (3600, "1h"), (5400, "1h30m"), (86400, "1d"), (86460, "1d1m"),
        (2 * 86400 + 3 * 3600, "2d3h"), (-5, "-5s"), (-5400, "-1h30m"),
    ],
)  # fmt: skip
def test_a_span_is_shown_as_people_write_it(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@bounded
@given(st.floats(min_value=0, max_value=1e9))
def test_every_span_that_is_shown_can_be_read_back_and_is_about_the_same(seconds: float) -> None:
    shown = format_duration(seconds)

    assert parse_duration_s(shown) == pytest.approx(seconds, rel=0.06, abs=0.0006)


# Moments


@pytest.mark.parametrize(
    ("epoch_s", "text"),
    [
        (MOMENT, "2026-11-21T07:00:00Z"),
        (MOMENT + 0.25, "2026-11-21T07:00:00.250Z"),
        (MOMENT + 0.9996, "2026-11-21T07:00:01Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-0.5, "1969-12-31T23:59:59.500Z"),
        (None, None),
    ],
)
def test_a_moment_is_written_in_utc_with_a_z(epoch_s: float | None, text: str | None) -> None:
    assert iso(epoch_s) == text


@bounded
@given(st.integers(min_value=-2_000_000_000_000, max_value=7_000_000_000_000))
def test_a_moment_survives_being_written_and_read(millis: int) -> None:
    text = iso(millis / 1000)

    assert text is not None
    assert round(parse_instant(text) * 1000) == millis


@pytest.mark.parametrize(
    ("text", "epoch_s"),
    [
        ("2026-11-21T07:00:00Z", MOMENT),
        ("2026-11-21T07:00:00", MOMENT),
        ("2026-11-21 07:00", MOMENT),
        ("2026-11-21T08:00+01:00", MOMENT),
        ("20261121T070000Z", MOMENT),
        ("2026-11-21T07:00:00.500Z", MOMENT + 0.5),
        ("2026-11-21", MOMENT - 7 * 3600),
    ],
)
def test_a_time_without_an_offset_is_utc(text: str, epoch_s: float) -> None:
    assert parse_instant(text) == epoch_s


@pytest.mark.parametrize("text", ["", "soon", "07:00", "2026-13-01", "1795244400.5", "2026-11-21T25:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month|hour"):
        parse_instant(text)


def test_stamps_for_ids_and_for_rq_are_utc() -> None:
    assert tick_stamp(MOMENT) == "20261121T070000Z"
    assert tick_stamp(MOMENT + 0.9) == "20261121T070000Z"
    assert rq_stamp(MOMENT + 0.012345) == "2026-11-21T07:00:00.012345Z"
    assert utc(MOMENT) == datetime(2026, 11, 21, 9, tzinfo=timezone(timedelta(hours=2)))
    assert utc(MOMENT).tzinfo is UTC


# Waiting


def test_a_wait_ends_when_it_is_woken_and_at_once_when_there_is_nothing_to_wait_for() -> None:
    woken = threading.Event()
    woken.set()
    began = boot_s()

    assert rest(60, woken)
    assert not rest(0, threading.Event())
    assert not rest(-5, threading.Event())

    assert boot_s() - began < 5


# The server's clock. Readings are (server time, boot time), in seconds from two moments of no meaning.


def observed(*readings: tuple[float, float]) -> ServerClock:
    clock = ServerClock()
    for server, boot in readings:
        clock.observe(server, boot, wall=server)
    return clock


def test_before_the_first_reading_there_is_no_time() -> None:
    with pytest.raises(LookupError, match="no reading"):
        ServerClock().now_s()


def test_the_first_reading_is_believed() -> None:
    clock = ServerClock()

    note = clock.observe(MOMENT, 0.0)

    assert note is None
    assert not clock.holding


def test_time_goes_on_between_readings() -> None:
    clock = ServerClock()

    clock.observe(MOMENT, boot_s() - 5)

    assert MOMENT + 5 <= clock.now_s() < MOMENT + 10


@pytest.mark.parametrize("step", [0.2, -0.2, 30, -30, JUMP_S, -JUMP_S])
def test_a_small_step_of_the_server_is_followed_at_once(step: float) -> None:
    now = boot_s()
    clock = observed((MOMENT, now - 10))

    note = clock.observe(MOMENT + 10 + step, now, wall=0.0)

    assert note is None
    assert not clock.holding
    assert clock.now_s() == pytest.approx(MOMENT + 10 + step, abs=2)


@pytest.mark.parametrize(("step", "words"), [(3600, "stepped by 1h"), (-86400, "stepped by -1d"), (301, "5m1s")])
def test_a_jump_of_the_server_is_held_back_and_told(step: float, words: str) -> None:
    now = boot_s()
    clock = observed((MOMENT, now - 10))

    note = clock.observe(MOMENT + 10 + step, now)

    assert clock.holding
    assert note is not None
    assert words in note
    assert "holding" in note
    assert clock.now_s() == pytest.approx(MOMENT + 10, abs=2)  # the time before the jump goes on


@pytest.mark.parametrize("jump", [7200, -7200])
def test_a_jump_is_believed_after_three_readings_that_agree_over_half_a_minute(jump: float) -> None:
    clock = observed((MOMENT, 0))
    notes = []
    held = []

    for boot in (1, 11, 21, 1 + HOLD_S - 1, 1 + HOLD_S):
        notes.append(clock.observe(MOMENT + jump + boot, boot))
        held.append(clock.holding)

    assert held == [True, True, True, True, False]
    assert [note is not None for note in notes] == [True, False, False, False, True]
    assert "steady at its new time" in (notes[-1] or "")


def test_two_readings_are_not_enough_however_far_apart() -> None:
    clock = observed((MOMENT, 0), (MOMENT + 7200, 1), (MOMENT + 7260, 61))
    held_by_two = clock.holding

    clock.observe(MOMENT + 7261, 62)

    assert held_by_two
    assert not clock.holding


def test_readings_that_disagree_start_the_doubt_anew() -> None:
    clock = observed((MOMENT, 0), (MOMENT + 7200, 0), (MOMENT + 7220, 20))

    clock.observe(MOMENT + 9000 + 25, 25)  # it steps again
    held = []
    for boot in (40, 54, 55):
        clock.observe(MOMENT + 9000 + boot, boot)
        held.append(clock.holding)

    assert held == [True, True, False]  # half a minute from the second step, not from the first


def test_a_clock_that_comes_back_is_believed_at_once() -> None:
    now = boot_s()
    clock = observed((MOMENT, now - 10), (MOMENT + 7205, now - 5))

    note = clock.observe(MOMENT + 10, now)

    assert not clock.holding
    assert note is not None
    assert "back" in note
    assert clock.now_s() == pytest.approx(MOMENT + 10, abs=2)


def test_after_a_jump_was_believed_time_goes_on_from_there() -> None:
    now = boot_s()
    clock = observed((MOMENT, now - 60), (MOMENT + 7201, now - 59), (MOMENT + 7230, now - 30), (MOMENT + 7260, now))

    assert not clock.holding
    assert clock.now_s() == pytest.approx(MOMENT + 7260, abs=2)
    assert clock.observe(MOMENT + 7261, now + 1) is None


def test_a_host_that_slept_is_no_jump_of_the_server() -> None:
    clock = observed((MOMENT, 0))

    note = clock.observe(MOMENT + 8 * 3600, 8 * 3600)  # the boot clock counts on while the host sleeps

    assert note is None
    assert not clock.holding


def test_the_difference_to_this_host_is_known_after_each_reading() -> None:
    clock = ServerClock()
    before = clock.offset_s

    clock.observe(MOMENT, 0, wall=MOMENT + 3600)
    ahead = clock.offset_s
    clock.observe(MOMENT + 1, 1, wall=MOMENT - 1.5)
    behind = clock.offset_s

    assert (before, ahead, behind) == (None, 3600, -2.5)


def test_a_stop_can_be_set_while_its_own_thread_is_about_to_set_it() -> None:
    """As by a signal that comes while the handler of an earlier one is at work."""
    stop = Stop()

    def set_while_setting() -> None:
        with stop._cond:
            stop.set()

    thread = threading.Thread(target=set_while_setting, daemon=True)
    thread.start()
    thread.join(5)

    assert not thread.is_alive()
    assert stop.is_set()
    assert stop.wait(0)
