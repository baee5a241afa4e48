"""Parents and children of jobs as a person meets them on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cronq import Cronq
from tests.faces.conftest import Answer

Cli = Callable[..., Answer]
#: A port where nothing listens.
NOBODY = "redis://127.0.0.1:1"
FAMILY = """
from cronq import job

@job("@daily", depends_on=["clean", "load"])
def report(): ...

@job("@hourly")
def load(): ...

job(name="clean", command=["true"], after=load)
"""
CYCLE = """
from cronq import job

@job("@daily", depends_on="b")
def a(): ...

@job("@daily", depends_on="c")
def b(): ...

@job(after=b)
def c(): ...

@job("@daily")
def fine(): ...
"""


@pytest.fixture
def family(app: Cronq) -> None:
    app.add("load", command=["true"], every="1h")
    app.add("clean", command=["true"], after="load")
    app.add("report", command=["true"], every="1d", depends_on=["clean", "load"])


# Adding and removing


def test_parents_are_given_by_flags_that_may_be_repeated(here: Path, cronq: Cli, app: Cronq) -> None:
    for name in ("load", "prices"):
        cronq("add", name, "--every", "1h", "--", "true")

    after = cronq("add", "clean", "--after", "load", "--after", "prices", "--on-parent-failure", "run", "--", "true")
    gate = cronq("add", "report", "--cron", "@daily", "--depends-on", "clean", "--", "true")

    assert (after.code, gate.code) == (0, 0)
    spec = app.jobs.get("clean").spec
    assert (spec.after, spec.on_parent_failure) == (("load", "prices"), "run")
    assert app.jobs.get("report").spec.depends_on == ("clean",)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--after", "lod"], "job 'new': after: there is no job 'lod'; did you mean 'load'?"),
        (["--after", "load", "--every", "5m"], "it takes the place of a schedule, and every=300.0 is one"),
        (["--depends-on", "load"], "load means nothing without a schedule; give cron or every"),
        (["--every", "5m", "--depends-on", "new"], "it names the job itself"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(family: None, cronq: Cli, words: list[str], told: str) -> None:
    answer = cronq("add", "new", *words, "--", "true")

    assert (answer.code, answer.out) == (78, "")
    assert told in answer.complaint


def test_an_edit_that_would_make_a_cycle_is_refused(family: None, cronq: Cli) -> None:
    answer = cronq("add", "load", "--every", "1h", "--depends-on", "report", "--", "true")

    assert answer.code == 78
    assert "load depends on report, report on" in answer.complaint
    assert "load; none of them would run, so take one out" in answer.complaint


def test_rm_refuses_a_parent_and_takes_a_family_as_a_whole(family: None, cronq: Cli, app: Cronq) -> None:
    refused = cronq("rm", "load")

    assert (refused.code, refused.complaint) == (
        75,
        "cronq: job 'load' is a parent of clean, report; remove or change these first, or `cronq rm --force load`",
    )
    whole = cronq("rm", "load", "clean", "report")
    assert whole.code == 0
    assert whole.err.splitlines() == ["cronq: report removed", "cronq: clean removed", "cronq: load removed"]
    assert app.jobs.names() == []


def test_rm_with_force_removes_a_parent_alone(family: None, cronq: Cli, app: Cronq) -> None:
    assert cronq("rm", "--force", "load").code == 0
    assert app.jobs.names() == ["clean", "report"]


# Modules


def test_a_family_is_stored_whatever_the_order_in_its_module(here: Path, shell: Cli) -> None:
    (here / "jobs.py").write_text(FAMILY)

    assert (checked := shell("check-config", "jobs", "--url", NOBODY)).code == 0, checked.err
    synced = shell("sync", "jobs")

    assert (synced.code, synced.out.splitlines()) == (0, ["created load", "created clean", "created report"])


def test_a_cycle_is_told_by_check_config_plan_and_sync_and_the_others_are_stored(here: Path, shell: Cli) -> None:
    (here / "jobs.py").write_text(CYCLE)
    words = "job 'b' (jobs.py:7): depends_on: b depends on c, c runs after b; none of them would run, so take one out"

    checked = shell("check-config", "jobs", "--url", NOBODY)
    assert (checked.code, checked.out.splitlines()) == (78, [words])
    planned, synced = shell("plan", "jobs"), shell("sync", "jobs")

    unknown = "job 'a' (jobs.py:4): depends_on: there is no job 'b'; its own definition was refused, mend that first"
    assert [answer.code for answer in (planned, synced)] == [78, 78]
    for answer in (planned, synced):
        assert answer.err.splitlines()[:2] == [f"cronq: {words}", f"cronq: {unknown}"]
    assert synced.out == "created fine\n"


def test_check_config_asks_a_redis_that_answers_for_parents_that_no_module_defines(
    here: Path, shell: Cli, app: Cronq
) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('@daily', depends_on='load')\ndef report(): ...\n")

    away = shell("check-config", "jobs", "--url", NOBODY)
    assert away.code == 0
    assert "the parents that jobs name were not looked for" in away.err
    missing = shell("check-config", "jobs")
    assert (missing.code, missing.out) == (
        78, "job 'report' (jobs.py:2): depends_on: there is no job 'load'; see `cronq list`\n"
    )  # fmt: skip
    assert missing.complaint == "cronq: 0 jobs sound, 1 fault"
    app.add("load", command=["true"])
    assert shell("check-config", "jobs").code == 0


def test_sync_keeps_a_parent_that_is_defined_no_more_and_says_for_whom(here: Path, shell: Cli, app: Cronq) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('@daily')\ndef load(): ...\n")
    shell("sync", "jobs")
    app.add("report", command=["true"], after="load")
    (here / "jobs.py").write_text("from cronq import job\n@job('@daily')\ndef other(): ...\n")

    synced = shell("sync", "jobs")

    assert (synced.code, synced.out) == (78, "created other\n")
    assert "job 'report': after: nothing defines 'load' any more, and it stays for this job" in synced.complaint
    assert app.jobs.names() == ["load", "other", "report"]
