"""Parents and children of jobs as a person meets them on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cronq import Cronq
from cronq.cli.output import moment
from tests.faces.conftest import Answer
from tests.faces.test_calendar import on_terminal

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
    assert "the parents that jobs name were not looked for: cannot reach Redis at redis://" in away.err
    assert "Error " not in away.err
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
    assert "remove this job with `cronq rm report`" in synced.complaint
    assert app.jobs.names() == ["load", "other", "report"]


# Looking at them


def names_of(answer: Answer) -> list[str]:
    """The names in the tree, from above."""
    return [line.lstrip("│├└ ").split()[0] for line in answer.out.splitlines()[1:]]


def shown(app: Cronq, name: str) -> list[str]:
    """The next tick of a job in the words of a table."""
    job = app.jobs.get(name)
    return moment(job.next_tick, "UTC", app.now_s()).split()


def test_the_graph_shows_each_job_below_its_parents(family: None, app: Cronq) -> None:
    app.add("mail", command=["true"], after=["report"])
    app.add("prices", command=["true"])
    app.add("totals", command=["true"], after=["prices", "report"])

    assert [line.split() for line in on_terminal("graph")] == [
        ["JOB", "STATUS", "NEXT"],
        ["load", "never", *shown(app, "load")],
        ["├", "clean", "never", "after", "load"],
        ["│", "└", "report", "never", *shown(app, "report")[:-1], "UTC,", "waits", "for", "clean,", "load"],
        ["│", "├", "mail", "never", "after", "report"],
        ["│", "└", "totals", "never", "after", "prices,", "report"],
        ["└", "report", "never", "(its", "children", "are", "above)"],
        ["prices", "never", "(by", "hand)"],
        ["└", "totals", "never", "after", "prices,", "report"],
    ]


def test_a_family_of_one_job_has_its_ancestors_and_descendants_and_nobody_else(
    family: None, app: Cronq, cronq: Cli
) -> None:
    app.add("mail", command=["true"], after="report")
    app.add("other", command=["true"], after="load")
    app.add("alone", command=["true"])

    assert names_of(cronq("graph", "clean")) == ["load", "clean", "report", "mail", "report"]
    assert names_of(cronq("graph", "other")) == ["load", "other"]
    assert names_of(cronq("graph", "alone")) == ["alone"]
    everything = cronq("graph")
    assert everything.complaint == "cronq: 1 job has neither parents nor children"
    unknown = cronq("graph", "clena")
    assert (unknown.code, unknown.out) == (2, "")
    assert "there is no job 'clena'; did you mean 'clean'?" in unknown.complaint


def test_a_graph_without_edges_says_so(here: Path, cronq: Cli, app: Cronq) -> None:
    assert (cronq("graph").out, cronq("graph").complaint) == ("", "cronq: no jobs")
    app.add("alone", command=["true"])
    app.add("lonely", command=["true"])
    answer = cronq("graph")
    assert (answer.code, answer.out) == (0, "")
    assert answer.complaint == "cronq: no job waits for another: 2 jobs have neither parents nor children"


def test_a_parent_that_is_gone_and_a_circle_that_somebody_wrote_by_hand_are_shown(
    family: None, app: Cronq, cronq: Cli
) -> None:
    app.remove("load", force=True)
    assert cronq("graph").out.splitlines()[1].split() == ["load", "no", "such", "job", "-"]

    app.client.hset(app.keys.job("clean"), "parents", '{"report": ["after"]}')
    app.client.hset(app.keys.job("report"), "parents", '{"clean": ["after"]}')
    assert names_of(cronq("graph")) == ["clean", "report", "clean"]


def test_a_chain_of_20_and_its_times_fit_a_terminal(here: Path, app: Cronq) -> None:
    app.add("extract-000", command=["true"], cron="0 3 * * *", tz="Europe/Berlin")
    for number in range(1, 20):
        app.add(f"extract-{number:03}", command=["true"], after=f"extract-{number - 1:03}")

    lines = on_terminal("graph")

    assert len(lines) == 21
    assert max(map(len, lines)) <= 80
    assert lines[-1].split()[-2:] == ["after", "extract-018"]


def test_a_chain_of_2000_is_shown_with_the_end_of_what_leads_to_it(here: Path, app: Cronq, cronq: Cli) -> None:
    app.client.sadd(app.keys.jobs, *(f"j{number}" for number in range(2000)))
    with app.client.pipeline() as pipe:
        for number in range(1, 2000):
            pipe.hset(app.keys.job(f"j{number}"), "parents", f'{{"j{number - 1}": ["after"]}}')
        pipe.execute()

    lines = cronq("graph").out.splitlines()

    assert len(lines) == 2001
    assert max(map(len, lines)) <= 80


def test_a_terminal_that_knows_ascii_only_gets_no_other(family: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    lines = on_terminal("graph")

    assert [line.split()[0] for line in lines[1:]] == ["load", "|-clean", "|", "`-report"]
    assert all(line.isascii() for line in lines)


def test_graphviz_gets_every_job_and_edge_quoted(family: None, app: Cronq, cronq: Cli) -> None:
    app.client.sadd(app.keys.jobs, 'a"b\\c\x1b')
    app.client.hset(app.keys.job('a"b\\c\x1b'), "parents", '{"load": ["after"]}')

    lines = [line.strip() for line in cronq("graph", "--dot").out.splitlines()]

    assert (lines[0], lines[-1]) == ("digraph cronq {", "}")
    assert '"load" -> "clean" [label="after"];' in lines
    assert '"clean" -> "report" [label="depends_on", style=dashed];' in lines
    assert '"load" [label="load\\nnever"];' in lines
    assert '"load" -> "a\\"b\\\\c\N{REPLACEMENT CHARACTER}" [label="after"];' in lines
    assert cronq("graph", "--dot", "--json").code == 2


def test_the_graph_as_json(family: None, cronq: Cli) -> None:
    document = json.loads(cronq("graph", "--json").out)

    assert set(document) == {"jobs", "edges"}
    clean, load, report = document["jobs"]
    assert clean == {
        "name": "clean", "schedule": None, "status": "never", "next": None, "parents": ["load"], "children": ["report"],
    }  # fmt: skip
    assert (load["children"], load["schedule"]) == (["clean", "report"], "every 1h")
    assert report["next"].endswith("T00:00:00Z")
    assert document["edges"] == [
        {"parent": "clean", "child": "report", "kind": "depends_on"},
        {"parent": "load", "child": "clean", "kind": "after"},
        {"parent": "load", "child": "report", "kind": "depends_on"},
    ]


def test_show_names_parents_and_children(family: None, app: Cronq, cronq: Cli) -> None:
    said = {name: cronq("show", name).out.splitlines() for name in ("load", "clean", "report")}

    assert "children          clean, report" in said["load"]
    assert "schedule          after load" in said["clean"]
    assert "children          report" in said["clean"]
    assert "depends on        clean, load" in said["report"]
    document = json.loads(cronq("show", "clean", "--json").out)
    assert (document["parents"], document["children"]) == (["load"], ["report"])
    assert (document["after"], document["depends_on"], document["schedule"]) == (["load"], [], None)


def test_a_parent_of_many_is_shown_with_some_of_its_children(here: Path, app: Cronq, cronq: Cli) -> None:
    app.add("load", command=["true"])
    for number in range(25):
        app.add(f"child-{number:02}", command=["true"], after="load")

    (line,) = [line for line in cronq("show", "load").out.splitlines() if line.startswith("children")]

    assert line.endswith("child-19 and 5 more: `cronq graph load`")
    assert len(json.loads(cronq("show", "load", "--json").out)["children"]) == 25


def test_list_and_next_say_after_what_a_job_without_a_schedule_runs(family: None, app: Cronq, cronq: Cli) -> None:
    app.add("publish", command=["true"], after=["clean", "load", "report"])

    rows = {name: line for line in on_terminal("list") for name in ("clean", "publish") if f"  {name}" in line}
    assert rows["clean"].startswith("after load  ")
    assert rows["publish"].startswith("after clean +2  ")
    assert "after clean, load, report" in cronq("list").out
    assert cronq("next").out.splitlines()[-2].split() == ["-", "-", "clean", "after", "load"]
    assert cronq("next", "clean").out.splitlines()[1].split() == ["-", "-", "clean", "after", "load"]
    assert json.loads(cronq("next", "clean", "--json").out) == []


def test_adding_says_after_what_it_runs(family: None, cronq: Cli) -> None:
    assert cronq("add", "mail", "--after", "report", "--", "true").complaint == (
        "cronq: mail added; it runs after report"
    )


def test_a_plan_says_which_parents_change(here: Path, shell: Cli, app: Cronq) -> None:
    (here / "jobs.py").write_text(FAMILY)
    added = shell("plan", "jobs").out
    assert "+ clean after load (jobs.py:10)" in added
    assert "+ report 0 0 * * * UTC, depends on clean, load (jobs.py:4)" in added or "@daily" in added
    shell("sync", "jobs")
    (here / "jobs.py").write_text(FAMILY.replace('["clean", "load"]', '"load"'))

    assert '    depends_on: ["clean", "load"] -> ["load"]' in shell("plan", "jobs").out.splitlines()


def test_a_crontab_has_no_parents(family: None, cronq: Cli) -> None:
    lines = cronq("crontab", "export").out.splitlines()

    assert "# clean cannot be written here: it runs after load" in lines
    cronq("add", "totals", "--cron", "0 3 * * *", "--depends-on", "load", "--", "true")
    (line,) = [line for line in cronq("crontab", "export").out.splitlines() if line.startswith("# totals")]
    assert line.endswith("depends_on=load")
