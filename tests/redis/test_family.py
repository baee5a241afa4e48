"""Parents that there are not, cycles, and parents that go: judged against all that is stored, whoever stores it."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.definitions.plan import Plan, make_plan
from cronq.definitions.sync import SyncReport
from cronq.errors import CronqError, DefinitionError, JobInUse, UnknownParent
from cronq.jobs.graph import parents_first
from cronq.jobs.registry import Definition
from cronq.jobs.spec import make_spec

MODULE = "shop"


def define(app: Cronq, name: str, *, module: str = MODULE, **options: Any) -> None:
    if "after" not in options:
        options.setdefault("cron", "@hourly")
    spec = make_spec(name, function=f"{module}:{name}", **options)
    app.registry.definitions[name] = Definition(spec, f"{module}.py:{name}", module, lambda: None)


def undefine(app: Cronq, *names: str) -> None:
    for name in names:
        del app.registry.definitions[name]


def synced(app: Cronq, *modules: str) -> SyncReport:
    return app.definitions().sync(modules or [MODULE], remove=True, by="ann@box")


def planned(app: Cronq) -> Plan:
    return make_plan(app.definitions(), [MODULE], app.exact_now_s(), app.config.max_args)


def told(report: SyncReport | Plan) -> list[str]:
    return [str(problem) for problem in report.problems]


def stored(app: Cronq) -> set[str]:
    return set(app.jobs.names())


def save(app: Cronq, name: str, **options: Any) -> str:
    return app.add(name, command=["true"], **options)


# Order


@pytest.mark.parametrize("order", [["load", "clean", "report"], ["report", "clean", "load"]])
def test_a_module_may_define_parent_and_child_in_any_order(app: Cronq, order: list[str]) -> None:
    options: dict[str, dict[str, Any]] = {"load": {}, "clean": {"after": "load"}, "report": {"depends_on": ["clean"]}}
    for name in order:
        define(app, name, **options[name])

    assert planned(app).problems == []
    report = synced(app)

    assert (report.created, report.problems) == (["load", "clean", "report"], [])
    assert synced(app).same == ["load", "clean", "report"]


def test_edges_that_are_turned_round_in_one_sync_are_no_cycle(app: Cronq) -> None:
    define(app, "a", depends_on="b")
    define(app, "b")
    synced(app)
    define(app, "a")
    define(app, "b", depends_on="a")

    report = synced(app)

    assert (report.changed, report.problems) == (["a", "b"], [])


# Parents that there are not


def test_an_unknown_parent_is_refused_with_place_and_suggestion_and_harms_no_other(app: Cronq) -> None:
    define(app, "load")
    define(app, "report", depends_on="laod")
    define(app, "mail", after="report")

    assert told(planned(app)) == (
        words := [
            "job 'report' (shop.py:report): depends_on: there is no job 'laod'; did you mean 'load'?",
            "job 'mail' (shop.py:mail): after: there is no job 'report'; its own definition was refused, "
            "mend that first",
        ]
    )
    report = synced(app)

    assert told(report) == words
    assert (report.created, stored(app)) == (["load"], {"load"})


def test_a_refused_child_keeps_its_old_definition_and_stays_a_parent(app: Cronq) -> None:
    define(app, "load")
    define(app, "report", depends_on="load")
    synced(app)
    define(app, "report", depends_on="other")
    define(app, "mail", after="report")

    report = synced(app)

    assert len(report.problems) == 1
    assert report.created == ["mail"]
    assert app.jobs.get("report").spec.depends_on == ("load",)


def test_a_parent_that_another_service_has_stored_counts(app: Cronq) -> None:
    define(app, "load", module="warehouse")
    synced(app, "warehouse")
    undefine(app, "load")
    define(app, "report", depends_on="load")

    assert synced(app).created == ["report"]
    assert stored(app) == {"load", "report"}


def test_a_parent_whose_own_definition_was_refused_at_its_decorator_is_told_so(app: Cronq) -> None:
    app.registry.refuse(DefinitionError("it never worked", job="load", place="shop.py:1"))
    define(app, "report", depends_on="load")

    assert told(synced(app))[1] == (
        "job 'report' (shop.py:report): depends_on: there is no job 'load'; its own definition was refused, "
        "mend that first"
    )


def test_a_command_that_names_an_unknown_parent_is_not_added(app: Cronq) -> None:
    save(app, "load", cron="@hourly")

    with pytest.raises(UnknownParent, match=r"job 'report': after: there is no job 'lod'; did you mean 'load'\?"):
        save(app, "report", after="lod")

    assert stored(app) == {"load"}
    assert save(app, "report", after="load") == "created"


def test_a_schedule_by_key_names_parents_of_its_own_that_have_to_exist(app: Cronq) -> None:
    define(app, "load")
    define(app, "report")
    synced(app)

    with pytest.raises(UnknownParent):
        app.schedule("report", "a", every="1h", depends_on="lod")
    assert app.schedule("report", "a", every="1h", depends_on="load") == "created"
    assert list(app.jobs.children_of(["load"])["load"]) == ["report--a"]


# Cycles


def test_a_cycle_is_refused_with_its_whole_path_and_harms_no_other(app: Cronq) -> None:
    define(app, "a", depends_on="b")
    define(app, "b", depends_on="c")
    define(app, "c", after="a")
    define(app, "other")

    assert told(planned(app)) == (
        words := [
            "job 'a' (shop.py:a): depends_on: a depends on b, b on c, c runs after a; "
            "none of them would run, so take one out"
        ]
    )
    report = synced(app)

    assert told(report) == words
    assert stored(app) == {"other"}


def test_a_cycle_that_runs_through_a_stored_job_is_refused(app: Cronq) -> None:
    define(app, "a")
    synced(app)
    save(app, "b", after="a")
    save(app, "c", after="b")
    define(app, "a", depends_on="c")

    assert told(planned(app)) == told(report := synced(app))
    assert "a depends on c, c runs after b, b after a; none" in told(report)[0]
    assert app.jobs.get("a").spec.depends_on == ()


def test_a_job_that_was_refused_counts_as_it_is_stored(app: Cronq) -> None:
    define(app, "a")
    define(app, "b", depends_on="a")
    synced(app)
    define(app, "b", depends_on="nobody")  # refused: b goes on depending on a
    define(app, "a", depends_on="b")

    report = synced(app)

    assert "there is no job 'nobody'" in told(report)[0]
    assert "a depends on b, b on a; none" in told(report)[1]
    assert len(told(report)) == 2


def test_an_edit_on_the_command_line_makes_no_cycle_either(app: Cronq) -> None:
    save(app, "a", cron="@hourly")
    save(app, "b", after="a")
    save(app, "c", after="b")
    version = app.jobs.version_of("a")

    with pytest.raises(DefinitionError, match="job 'a': after: a runs after c, c after b, b after a; none"):
        save(app, "a", after="c")

    assert app.jobs.version_of("a") == version


def test_of_two_that_make_each_other_a_child_at_the_same_time_one_is_refused(app: Cronq) -> None:
    for turn in range(20):
        one, other = f"one{turn}", f"other{turn}"
        save(app, one, cron="@hourly")
        save(app, other, cron="@hourly")
        together, refused = threading.Barrier(2), list[CronqError]()

        def make(child: str, parent: str, together: threading.Barrier, refused: list[CronqError]) -> None:
            together.wait()
            try:
                save(app, child, after=parent)
            except CronqError as error:
                refused.append(error)

        threads = [
            threading.Thread(target=make, args=(*pair, together, refused)) for pair in ((one, other), (other, one))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        parents = app.jobs.parents_of([one, other])
        assert sorted(map(bool, parents.values())) == [False, True]
        assert len(refused) == 1
        assert "runs after" in str(refused[0])


# Parents that go


def test_a_parent_is_not_removed_while_a_child_names_it(app: Cronq) -> None:
    save(app, "load", cron="@hourly")
    save(app, "report", after="load")
    save(app, "mail", cron="@hourly", depends_on="load")

    with pytest.raises(JobInUse, match="job 'load' is a parent of mail, report; remove or change these first"):
        app.remove("load")
    assert stored(app) == {"load", "mail", "report"}

    app.remove("load", force=True)
    assert stored(app) == {"mail", "report"}
    assert app.jobs.parents_of(["report"]) == {"report": {"load": ["after"]}}
    assert save(app, "report", after="load", timeout="5m") == "changed"  # it may keep what it has


def test_removal_in_the_same_moment_as_a_child_comes_is_refused_by_the_step_itself(app: Cronq) -> None:
    save(app, "load", cron="@hourly")
    save(app, "report", after="load")

    with pytest.raises(JobInUse, match="report"):
        app.jobs.remove("load", by="ann", now_s=app.now_s(), keep_rows_for_s=60)

    assert stored(app) == {"load", "report"}


def test_a_note_of_a_child_that_is_gone_keeps_no_parent(app: Cronq, redis: Redis) -> None:
    save(app, "load", cron="@hourly")
    redis.hset(app.keys.children("load"), mapping={"gone": '["after"]', "load": '["after"]'})

    app.remove("load")

    assert stored(app) == set()


def test_whole_families_go_in_one_sync_children_first(app: Cronq) -> None:
    define(app, "load")
    define(app, "clean", after="load")
    define(app, "report", depends_on=["clean", "load"])
    synced(app)
    undefine(app, "load", "clean", "report")

    assert [change.action for change in planned(app).changes] == ["remove"] * 3
    report = synced(app)

    assert (report.removed, report.problems) == (["report", "clean", "load"], [])
    assert stored(app) == set()


def test_a_parent_that_is_defined_no_more_stays_for_its_child_and_so_do_its_own_parents(app: Cronq) -> None:
    define(app, "root")
    define(app, "load", depends_on="root")
    define(app, "old")
    define(app, "report", depends_on="load")
    synced(app)
    undefine(app, "root", "load", "old")

    plan = planned(app)
    report = synced(app)

    assert [change.spec.name for change in plan.changes] == report.removed == ["old"]
    assert told(plan) == told(report)
    assert sorted(told(report)) == [
        "job 'load': depends_on: nothing defines 'root' any more, and it stays for this job; take it out here, "
        "remove this job with `cronq rm load`, or define it again",
        "job 'report' (shop.py:report): depends_on: nothing defines 'load' any more, and it stays for this job; "
        "take it out here, or define it again",
    ]


def test_a_child_that_lets_go_of_its_parent_in_the_same_sync_keeps_it_no_longer(app: Cronq) -> None:
    define(app, "load")
    define(app, "report", depends_on="load")
    synced(app)
    undefine(app, "load")
    define(app, "report")

    assert sorted(change.action for change in planned(app).changes) == ["change", "remove"]
    report = synced(app)

    assert (report.changed, report.removed, report.problems) == (["report"], ["load"], [])


@pytest.mark.parametrize("seed", range(12))
def test_a_plan_of_any_family_is_what_the_sync_then_does_and_no_cycle_is_ever_stored(app: Cronq, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"j{number}" for number in range(8)]
    for _ in range(6):
        app.registry.definitions.clear()
        for name in chance.sample(names, chance.randint(2, 8)):
            others = [each for each in [*names, "nobody"] if each != name]
            parents = chance.sample(others, chance.choice([0, 0, 1, 1, 2]))
            define(app, name, **{chance.choice(["after", "depends_on"]): parents} if parents else {})
        plan = planned(app)
        report = synced(app)

        assert {change.spec.name for change in plan.changes if change.action == "add"} == set(report.created)
        assert {change.spec.name for change in plan.changes if change.action == "change"} == set(report.changed)
        assert {change.spec.name for change in plan.changes if change.action == "remove"} == set(report.removed)
        assert told(plan) == told(report)
        parents_now = app.jobs.parents_of(stored(app))
        assert parents_first(parents_now, lambda name, by=parents_now: by.get(name, ()))[1] == []  # type: ignore[misc]
        assert {parent for each in parents_now.values() for parent in each} <= stored(app)


# Beats


def test_a_beat_stores_a_job_as_soon_as_its_parents_have_come_from_elsewhere(
    app: Cronq, caplog: pytest.LogCaptureFixture
) -> None:
    define(app, "report", depends_on="load")
    define(app, "mail", after="report")
    assert len(synced(app).problems) == 2
    beat = app.beat()
    (orphans,) = [chore for chore in beat.chores if chore.name == "orphans"]

    beat.pass_once(now_s=app.now_s())
    orphans.work(app.now_s())
    assert stored(app) == set()
    save(app, "load", cron="@hourly")
    with caplog.at_level(logging.WARNING):
        orphans.work(app.now_s())

    assert stored(app) == {"load", "report", "mail"}
    assert "MEND job=report is stored, as all its parents are there now" in caplog.messages


def test_an_emptied_redis_gets_a_family_back_whatever_the_order_of_its_definitions(app: Cronq, redis: Redis) -> None:
    define(app, "mail", after="report")
    define(app, "report", depends_on="load")
    define(app, "load")
    beat = app.beat()
    beat.pass_once(now_s=app.now_s())
    redis.flushdb()

    beat.pass_once(now_s=app.now_s())

    assert stored(app) == {"load", "report", "mail"}
    assert list(app.jobs.children_of(["load"])["load"]) == ["report"]


def test_a_beat_restores_no_job_of_a_cycle(app: Cronq) -> None:
    define(app, "a", after="b")
    define(app, "b", after="a")
    define(app, "other")

    app.beat().pass_once(now_s=app.now_s())

    assert stored(app) == {"other"}
