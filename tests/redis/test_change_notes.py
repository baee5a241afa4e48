"""Who changed a job, what and when: in the stream of events, and in the notes that each job keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.definitions.changes import Changes
from cronq.jobs.change_notes import MOST_NOTES, ChangeNote, spec_at
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.run import Ending, Settlement, Start

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
HOUR = 3600
At = Callable[..., Changes]
HOURLY = make_spec("a", command=["true"], cron="0 * * * *")
#: A user of Redis who may write all that a run of `a` needs, and no note.
NO_NOTES = [
    "ACL", "SETUSER", "w", "reset", "on", ">x", "+@all", "&*", "~rq:*", "~cronq:[^j]*", "~cronq:jobs", "~cronq:job:a",
    "~cronq:job:a:[^c]*", "~cronq:job:a:children",
]  # fmt: skip


@pytest.fixture
def at(app: Cronq) -> At:
    """Changes that somebody makes at a moment of our choice."""

    def _at(moment: float, by: str = "ann@box") -> Changes:
        return Changes(app.jobs, app.claimer(by), app.bulk_stop, app.calendars, lambda: moment, 86400)

    return _at


def save(changes: Changes, spec: JobSpec = HOURLY) -> str:
    return changes.save(spec, source="here:1", origin="test")


def told(app: Cronq) -> list[tuple[str, str]]:
    """What the stream says of changes, and who made them."""
    entries = [fields for _, fields in app.client.xrange(app.keys.events) if b"run" not in fields]
    return [(fields[b"type"].decode(), fields.get(b"by", b"").decode()) for fields in entries]


def test_each_change_says_who_made_it_in_the_stream_and_in_the_notes(app: Cronq, at: At) -> None:
    save(at(T))
    save(at(T + 1, "beat web-1.7"), replace(HOURLY, timeout=60.0, env={"TOKEN": "secret"}))
    at(T + 2).pause("a", by="ben@box", note="moving house")
    at(T + 3, "cleo@box").resume("a")
    at(T + 4).skip("a", 1, by="dan@box", note="a holiday")
    at(T + 5).undo_skip("a", by="dan@box")
    at(T + 6).remove("a", by="eve@box")

    assert told(app) == [
        ("job_created", "ann@box"), ("job_changed", "beat web-1.7"), ("job_paused", "ben@box"),
        ("job_resumed", "cleo@box"), ("job_skips", "dan@box"), ("job_skips_undone", "dan@box"),
        ("job_removed", "eve@box"),
    ]  # fmt: skip
    assert app.changes_of("a") == [
        ChangeNote(T + 6, "eve@box", "job_removed"),
        ChangeNote(T + 5, "dan@box", "job_skips_undone"),
        ChangeNote(T + 4, "dan@box", "job_skips", words="a holiday"),
        ChangeNote(T + 3, "cleo@box", "job_resumed"),
        ChangeNote(T + 2, "ben@box", "job_paused", words="moving house"),
        ChangeNote(T + 1, "beat web-1.7", "job_changed", ("env", "timeout")),
        ChangeNote(T, "ann@box", "job_created"),
    ]


def test_no_value_of_an_option_is_kept_but_for_those_of_the_schedule(app: Cronq, at: At, redis: Redis) -> None:
    save(at(T), replace(HOURLY, env={"TOKEN": "secret"}))
    save(at(T + 1), replace(HOURLY, cron=None, every=300.0, tz="Europe/Amsterdam"))

    newest = app.changes_of("a")[0]

    assert newest.options == ("env", "cron", "every", "tz")
    assert newest.was == {"cron": "0 * * * *"}
    assert all(b"secret" not in raw for raw in redis.lrange(app.keys.changes("a"), 0, -1))


def test_what_stays_the_same_leaves_no_note(app: Cronq, at: At) -> None:
    save(at(T))
    assert save(at(T + 1)) == "same"
    assert not at(T + 2).resume("a")

    assert [note.what for note in app.changes_of("a")] == ["job_created"]


def test_the_notes_of_a_removed_job_end_with_its_ledger_and_go_on_when_it_comes_back(
    app: Cronq, at: At, redis: Redis
) -> None:
    save(at(T))
    at(T + 1).remove("a", by="ann@box")
    assert 0 < redis.ttl(app.keys.changes("a")) <= 86400

    save(at(T + 2))

    assert redis.ttl(app.keys.changes("a")) == -1
    assert [note.what for note in app.changes_of("a")] == ["job_created", "job_removed", "job_created"]


def test_only_the_last_changes_are_kept_and_they_take_little(app: Cronq, at: At, redis: Redis) -> None:
    for number in range(3 * MOST_NOTES):
        save(at(T + number), replace(HOURLY, cron=f"{number} * * * *"))

    notes = app.changes_of("a")

    assert len(notes) == MOST_NOTES
    assert notes[0].at_s == T + 3 * MOST_NOTES - 1
    assert (redis.memory_usage(app.keys.changes("a")) or 0) < 3000
    save(at(T), replace(HOURLY, name="b"))
    assert (redis.memory_usage(app.keys.changes("b")) or 0) <= 250


def test_a_job_that_its_failures_paused_says_so(app: Cronq, at: At) -> None:
    save(at(T), replace(HOURLY, cron=None, pause_after_failures=1))
    fail(app, app.enqueue("a"))

    assert told(app)[-1] == ("job_paused", "cronq")
    assert app.changes_of("a")[0].text == "paused by cronq: paused after 1 failure in a row"


def test_a_worker_that_may_not_write_notes_settles_its_runs_all_the_same(app: Cronq, at: At, redis: Redis) -> None:
    save(at(T), replace(HOURLY, cron=None, pause_after_failures=1))
    run_id = app.enqueue("a")
    redis.execute_command(*NO_NOTES)
    narrow = Redis(unix_socket_path=redis.connection_pool.connection_kwargs["path"], username="w", password="x")
    try:
        fail(Cronq(config=app.config, registry=app.registry, client=narrow), run_id)
    finally:
        redis.execute_command("ACL", "DELUSER", "w")

    assert app.read_run(run_id).outcome == "failed"
    assert app.read_job("a").state.pause is not None
    assert [note.what for note in app.changes_of("a")] == ["job_created"]


def fail(app: Cronq, run_id: str) -> None:
    """Have a run fail, as its worker would."""
    start = Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=app.now_s())
    assert app.runs.start(app.runs.get(run_id), start).code == "started"
    ending = Ending(Settlement("failed", "exit code 1"), "worker w", app.now_s(), execution="e")
    assert app.runs.settle(app.runs.get(run_id), ending)


@pytest.mark.parametrize(
    "junk", ["{", "[]", '{"by": "ann"}', '{"at": "x"}', '{"at": 1e400}', '{"at": 5, "options": 7}']
)
def test_notes_that_cannot_be_read_hide_no_others(app: Cronq, at: At, redis: Redis, junk: str) -> None:
    save(at(T))
    redis.lpush(app.keys.changes("a"), junk)

    assert [note.at_s for note in app.changes_of("a")] == [T]


def test_a_key_of_a_wrong_type_keeps_no_change_back(app: Cronq, at: At, redis: Redis) -> None:
    redis.set(app.keys.changes("a"), "junk")

    assert save(at(T)) == "created"
    at(T + 1).pause("a", by="ann@box")
    assert app.changes_of("a") == []
    at(T + 2).remove("a", by="ann@box")


# By which schedule a job went at a moment


def test_the_schedule_of_a_moment_is_the_one_before_the_first_change_after_it(app: Cronq, at: At) -> None:
    save(at(T))
    save(at(T + HOUR), replace(HOURLY, cron="30 * * * *"))
    save(at(T + 2 * HOUR), replace(HOURLY, cron="30 * * * *", timeout=5.0))
    today = replace(HOURLY, every=600.0, cron=None, start=T)
    save(at(T + 3 * HOUR), today)
    notes = app.changes_of("a")

    def cron_at(moment: float) -> tuple[str | None, float | None]:
        spec, note = spec_at(today, notes, moment)
        return spec.cron, None if note is None else note.at_s

    assert cron_at(T + 1) == ("0 * * * *", T + HOUR)
    assert cron_at(T + HOUR + 1) == ("30 * * * *", T + 3 * HOUR)
    assert cron_at(T + 3 * HOUR + 1) == (None, None)
    assert spec_at(today, notes, T + 1)[0].start is None


@pytest.mark.parametrize("was", [{"cron": "nonsense"}, {"cron": 7}, {"every": "x"}, {"cron": "* * * * *", "tz": []}])
def test_a_schedule_that_cannot_be_read_counts_as_the_one_of_today(was: dict[str, object]) -> None:
    notes = [ChangeNote(T + 1, "ann", "job_changed", ("cron",), was)]

    assert spec_at(HOURLY, notes, T) == (HOURLY, None)
