"""`skip`: the next ticks of a job are recorded and do not run, whatever becomes of the job meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.definitions.changes import Changes
from cronq.errors import CronqError, DefinitionError, UnknownJob
from cronq.jobs.change_notes import ChangeNote
from cronq.jobs.spec import JobSpec, make_spec
from cronq.jobs.store import JobStore
from tests.redis.conftest import work

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
Store = Callable[..., JobSpec]


@pytest.fixture
def changes_at(app: Cronq) -> Callable[[float], Changes]:
    """Changes as if it were that moment."""

    def at(moment_s: float) -> Changes:
        changes = app.changes()
        changes.now_s = lambda: moment_s
        return changes

    return at


At = Callable[[float], Changes]


def outcomes(app: Cronq, name: str) -> list[str | None]:
    return [run.outcome or run.state for run in reversed(app.history(name, 100))]


def minutes(*numbers: int) -> list[int]:
    return [T + number * MINUTE for number in numbers]


def test_the_next_tick_is_recorded_with_who_and_why_and_the_one_after_runs(
    app: Cronq, store: Store, changes_at: At
) -> None:
    store("report", mark=T)

    assert changes_at(T + 1.0).skip("report", 1, by="ann@box", note="no paper") == minutes(1)
    beat = app.beat()
    for minute in (1, 2):
        beat.pass_once(now_s=T + minute * MINUTE + 0.1)

    first, second = reversed(app.history("report"))
    assert (first.outcome, first.reason) == ("skipped", "skipped by ann@box: no paper")
    assert second.state == "queued"


def test_the_same_again_skips_no_more_and_a_larger_number_adds_the_rest(
    app: Cronq, store: Store, changes_at: At
) -> None:
    store("report", mark=T)
    changes = changes_at(T + 1.0)

    assert changes.skip("report", 2, by="ann", note="first") == minutes(1, 2)
    assert changes.skip("report", 2, by="bob") == minutes(1, 2)
    assert changes.skip("report", 3, by="bob", note="more") == minutes(1, 2, 3)

    found = app.read_job("report").state.skips
    assert [(list(skip.ticks), skip.by, skip.note) for skip in found] == [
        (minutes(1, 2), "ann", "first"), (minutes(3), "bob", "more"),
    ]  # fmt: skip


def test_a_changed_schedule_moves_no_skip(app: Cronq, store: Store, changes_at: At) -> None:
    store("report", mark=T, overlap="allow")
    changes = changes_at(T + 1.0)
    changes.skip("report", 2, by="ann")

    function = f"{work.__module__}:work"
    spec = make_spec("report", cron="*/2 * * * *", function=function, overlap="allow")
    assert changes.save(spec, source="here:1", origin="test") == "changed"
    beat = app.beat()
    for minute in (2, 4):
        beat.pass_once(now_s=T + minute * MINUTE + 0.1)

    assert outcomes(app, "report") == ["skipped", "queued"]


def test_undo_lets_ticks_to_come_run_and_no_past_one(app: Cronq, store: Store, changes_at: At) -> None:
    store("report", mark=T, catchup="all", overlap="allow")
    changes_at(T + 1.0).skip("report", 3, by="ann")

    # No beat was alive at the first of them.
    assert changes_at(T + MINUTE + 10.0).undo_skip("report", by="ann") == minutes(2, 3)
    assert changes_at(T + MINUTE + 10.0).undo_skip("report", by="ann") == []
    app.beat().pass_once(now_s=T + 3 * MINUTE + 0.1)

    assert outcomes(app, "report") == ["skipped", "queued", "queued"]


def test_what_a_calendar_or_a_pause_excludes_is_not_counted(app: Cronq, store: Store, changes_at: At) -> None:
    app.set_calendar("quiet", weekly=["mon 07:02-07:04"])
    store("report", mark=T, except_="quiet")
    changes = changes_at(T + 1.0)

    assert changes.skip("report", 3, by="ann") == minutes(1, 4, 5)
    store("paused", mark=T)
    changes.pause("paused", by="ann", until_s=T + 10 * MINUTE)
    assert changes.skip("paused", 1, by="ann") == minutes(10)
    store("for-good", mark=T)
    changes.pause("for-good", by="ann")
    with pytest.raises(DefinitionError, match="no tick to come would run"):
        changes.skip("for-good", 1, by="ann")


def test_no_more_ticks_are_skipped_than_the_job_has_left(app: Cronq, store: Store, changes_at: At) -> None:
    store("thrice", mark=T, repeat=3)

    assert changes_at(T + 1.0).skip("thrice", 5, by="ann") == minutes(1, 2, 3)
    assert changes_at(T + MINUTE + 1.0).skip("thrice", 5, by="ann") == minutes(2, 3)


def test_a_claim_that_was_decided_before_the_skip_does_not_run_the_tick(
    app: Cronq, store: Store, changes_at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("report", mark=T)
    beat = app.beat()
    usual = JobStore.read_due

    def read_and_skip(self: JobStore, *args: object, **options: object) -> object:
        reading = usual(self, *args, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(JobStore, "read_due", usual)
        changes_at(T + MINUTE - 0.5).skip("report", 1, by="ann")
        return reading

    monkeypatch.setattr(JobStore, "read_due", read_and_skip)
    beat.pass_once(now_s=T + MINUTE + 0.1)
    beat.pass_once(now_s=T + MINUTE + 0.2)

    assert outcomes(app, "report") == ["skipped"]


def test_a_skipped_tick_that_no_beat_took_in_time_is_skipped_and_not_missed(
    app: Cronq, store: Store, changes_at: At
) -> None:
    store("report", mark=T, catchup="latest")
    changes_at(T + 1.0).skip("report", 1, by="ann")

    app.beat().pass_once(now_s=T + 3 * MINUTE + 0.1)

    assert outcomes(app, "report") == ["skipped", "coalesced", "queued"]


def test_each_change_is_one_event_and_nothing_is_told_when_nothing_changes(
    app: Cronq, store: Store, changes_at: At
) -> None:
    store("report", mark=T)
    changes = changes_at(T + 1.0)
    changes.skip("report", 1, by="ann")
    changes.skip("report", 1, by="ann")
    changes.undo_skip("report", by="ann")
    changes.undo_skip("report", by="ann")

    told = [(fields[b"type"], fields.get(b"by")) for _, fields in app.client.xrange(app.keys.events)]
    assert [each for each in told if each[0].startswith(b"job_skips")] == [
        (b"job_skips", b"ann"), (b"job_skips_undone", b"ann"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "note", "words"),
    [(0, "", "from 1 to 1,000"), (1001, "", "from 1 to 1,000"), (1, "x" * 1001, "1,000 are allowed")],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    app: Cronq, store: Store, changes_at: At, count: int, note: str, words: str
) -> None:
    store("report", mark=T)
    before = app.client.hgetall(app.keys.state("report")), app.client.hgetall(app.keys.job("report"))

    with pytest.raises(DefinitionError, match=words):
        changes_at(T + 1.0).skip("report", count, by="ann", note=note)

    assert (app.client.hgetall(app.keys.state("report")), app.client.hgetall(app.keys.job("report"))) == before


def test_a_job_that_is_not_there_or_has_no_schedule_has_none_to_skip(app: Cronq, changes_at: At) -> None:
    with pytest.raises(UnknownJob):
        changes_at(T).skip("gone", 1, by="ann")
    app.add("by-hand", command=["true"])
    with pytest.raises(DefinitionError, match="no tick to come would run"):
        changes_at(T).skip("by-hand", 1, by="ann")
    assert changes_at(T).undo_skip("by-hand", by="ann") == []


@pytest.mark.parametrize(
    "raw", ["{", "[]", "5", '[{"ticks": [1e999]}]', '[{"ticks": ["x"], "by": "", "note": "", "at": 0}]', "\x00"]
)
def test_damaged_skips_keep_no_job_from_running(app: Cronq, store: Store, redis: Redis, raw: str) -> None:
    store("report", mark=T)
    redis.hset(app.keys.state("report"), "skips", raw)

    app.beat().pass_once(now_s=T + MINUTE + 0.1)

    assert outcomes(app, "report") == ["queued"]


@pytest.mark.parametrize("key", ["state", "events"])
def test_a_key_of_a_wrong_type_is_told_and_nothing_is_written(
    app: Cronq, store: Store, redis: Redis, changes_at: At, key: str
) -> None:
    store("report", mark=T)
    job = app.read_job("report")
    wrong = app.keys.events if key == "events" else app.keys.state("report")
    redis.delete(wrong)
    redis.set(wrong, "junk")

    with pytest.raises(CronqError, match=f"the key {wrong} has a wrong type"):
        app.jobs.set_skips(job, (), ChangeNote(T, "ann"))
    assert app.jobs.version_of("report") == job.version


# Beside a release that knows nothing of skips


def test_a_beat_of_the_release_before_leaves_the_job_alone_until_nothing_is_to_be_skipped(
    app: Cronq, store: Store, changes_at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pass_of_the_release_before(minute: int) -> None:
        with monkeypatch.context() as older:
            older.setattr("cronq.jobs.store.SPEC_LAYOUT", 1)
            app.beat().pass_once(now_s=T + minute * MINUTE + 0.1)

    spec = store("report", mark=T, overlap="allow")
    changes = changes_at(T + 1.0)
    changes.skip("report", 1, by="ann")
    changes.save(spec, source="there:2", origin="test")  # as each beat and `sync` does when it starts
    pass_of_the_release_before(1)
    assert app.client.zcard(app.keys.runs("report")) == 0

    app.beat().pass_once(now_s=T + MINUTE + 0.2)
    assert outcomes(app, "report") == ["skipped"]
    changes.save(spec, source="there:2", origin="test")
    pass_of_the_release_before(2)
    assert outcomes(app, "report") == ["skipped", "queued"]


def test_undoing_gives_the_job_back_to_the_release_before(app: Cronq, store: Store, changes_at: At) -> None:
    store("report", mark=T)
    changes_at(T + 1.0).skip("report", 1, by="ann")
    assert app.client.hget(app.keys.job("report"), "layout") == b"2"

    changes_at(T + 2.0).undo_skip("report", by="ann")

    assert app.client.hget(app.keys.job("report"), "layout") == b"1"
    assert app.client.hmget(app.keys.state("report"), "skips", "skip_until") == [None, None]
    assert json.loads(app.client.hget(app.keys.job("report"), "spec") or "")["name"] == "report"
