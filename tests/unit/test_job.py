"""Job definitions: what is accepted, what is refused and in which words, and how they are stored."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronq.errors import DefinitionError, ScheduleError, SpecTooNew
from cronq.jobs.arguments import dump_args
from cronq.jobs.keyed import keyed_spec
from cronq.jobs.options import WORDS, check_name
from cronq.jobs.spec import SINCE, SPEC_LAYOUT, JobSpec, make_spec
from cronq.schedule.schedule import DST_RULES

bounded = settings(derandomize=True, deadline=None, max_examples=200)


def function_job(name: str = "nightly", **options: Any) -> JobSpec:
    return make_spec(name, function="jobs:nightly", **options)


def refusal(name: str = "nightly", **options: Any) -> str:
    """What a person reads when *options* are refused."""
    if "command" not in options:
        options.setdefault("function", "jobs:nightly")
    with pytest.raises(DefinitionError) as refused:
        make_spec(name, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Names


@pytest.mark.parametrize("name", ["a", "send_invoices", "shard-0", "A9_-", "a" * 100, "m0123abcd", "x-m0123abcg", "-"])
def test_a_name_is_made_of_letters_digits_dashes_and_underscores(name: str) -> None:
    check_name(name)

    assert function_job(name).name == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a/b", "a.b", "é", "a\n", "٣", "a" * 101, None, 5, b"a"])
def test_other_names_are_refused_with_what_is_allowed(name: Any) -> None:
    text = refusal(name)

    assert repr(name) in text
    assert "use 1 to 100 of the characters A-Z a-z 0-9 _ -" in text


@pytest.mark.parametrize("name", ["x-20261121T070000Z", "x-m0123abcd", "-m0123abcd", "a-b-20261121T070000Z"])
def test_a_name_that_ends_like_a_run_is_refused(name: str) -> None:
    text = refusal(name)

    assert repr(name) in text
    assert "ends like the id of a run; choose another ending" in text


# Every option, refused: the text names the job, the option, the value and what to do

NO_DURATION = "write seconds, '5m', '1h30m' or a timedelta"

REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"cron": "61 * * * *"}, "cron", "61", "0-59"),
    ({"cron": "* * *"}, "cron", "'* * *'", "cron has 5"),
    ({"cron": ""}, "cron", "''", "cron has 5"),
    ({"cron": 5}, "cron", "5", "is not text"),
    ({"cron": "* * * * *", "every": "5m"}, "cron", "cron and every", "has one of them"),
    ({"every": "1.5s"}, "every", "1.5", "use whole seconds"),
    ({"every": 0}, "every", "0", "at least 1"),
    ({"every": "soon"}, "every", "'soon'", NO_DURATION),
    ({"every": -5}, "every", "-5", "is not a duration"),
    ({"every": True}, "every", "True", NO_DURATION),
    ({"at": "25:00"}, "at", "'25:00'", "0-23"),
    ({"at": "noon"}, "at", "'noon'", "HH:MM"),
    ({"at": 10}, "at", "10", "is not text"),
    ({"at": "10:00", "every": "5m"}, "at", "'10:00'", "whole days"),
    ({"at": "10:00", "cron": "* * * * *"}, "at", "at", "into the cron expression"),
    ({"cron": "* * * * *", "tz": "Europe/Amsterdm"}, "tz", "'Europe/Amsterdm'", "did you mean Europe/Amsterdam?"),
    ({"cron": "* * * * *", "tz": None}, "tz", "None", "leave it out"),
    ({"tz": "Europe/Amsterdam"}, "tz", "'Europe/Amsterdam'", "give cron or every"),
    ({"dst": "skip"}, "dst", "'skip'", "give cron or every"),
    ({"cron": "* * * * *", "dst": "skp"}, "dst", "'skp'", "did you mean skip?"),
    ({"catchup": "lates"}, "catchup", "'lates'", "one of latest, skip, all"),
    ({"catchup": None}, "catchup", "None", "leave it out"),
    ({"catchup": []}, "catchup", "[]", "one of latest, skip, all"),
    ({"window": "1x"}, "window", "'1x'", NO_DURATION),
    ({"window": None}, "window", "None", "leave it out"),
    ({"max_catchup": 0}, "max_catchup", "0", "whole number from 1"),
    ({"max_catchup": 1.5}, "max_catchup", "1.5", "whole number from 1"),
    ({"max_catchup": "5"}, "max_catchup", "'5'", "whole number from 1"),
    ({"max_catchup": True}, "max_catchup", "True", "whole number from 1"),
    ({"priority": 1001}, "priority", "1001", "whole number from -1,000 to 1,000"),
    ({"priority": -1001}, "priority", "-1001", "whole number from -1,000 to 1,000"),
    ({"priority": 0.5}, "priority", "0.5", "whole number from -1,000"),
    ({"priority": None}, "priority", "None", "leave it out"),
    ({"ttl": 0}, "ttl", "0s", "at least 1s"),
    ({"ttl": "500ms"}, "ttl", "0.5s", "at least 1s"),
    ({"ttl": "-1s"}, "ttl", "'-1s'", NO_DURATION),
    ({"overlap": "x"}, "overlap", "'x'", "one of skip, allow, queue, latest, replace"),
    ({"warn_after": "1h"}, "warn_after", "1h", "lower it or raise timeout"),
    ({"warn_after": 0}, "warn_after", "0s", "from 1s to 366d"),
    ({"cron": "@daily", "jitter": "2d"}, "jitter", "2d", "from 1s to 1d"),
    ({"jitter": "5m"}, "jitter", "5m", "without a schedule"),
    ({"cron": "@daily", "jitter": "5m", "ttl": "4m"}, "ttl", "4m", "raise ttl or lower jitter"),
    ({"cron": "@daily", "repeat": 0}, "repeat", "0", "whole number from 1"),
    ({"repeat": 3}, "repeat", "3", "without a schedule"),
    ({"at": "2026-12-24T18:00", "repeat": 3}, "repeat", "3", "leave one of them out"),
    ({"every": "14d", "anchor": "soon"}, "anchor", "'soon'", "write 2026-12-24T18:00"),
    ({"cron": "@daily", "anchor": "2026-01-05"}, "anchor", "2026-01-05T00:00:00Z", "give every, or leave it out"),
    ({"cron": "@daily", "start": "soon"}, "start", "'soon'", "write 2026-12-24T18:00"),
    ({"cron": "@daily", "start": 5}, "start", "5", "write 2026-12-24T18:00"),
    ({"cron": "@daily", "start": "2026-12-24"}, "start", "'2026-12-24'", "write 2026-12-24T18:00"),
    ({"cron": "@daily", "end": "1969-12-24T18:00"}, "end", "1969", "between the years"),
    ({"start": "2026-12-24T18:00"}, "start", "2026-12-24T18:00:00Z", "without a schedule"),
    ({"cron": "@daily", "end": "2026-03-29T02:30", "tz": "Europe/Berlin"}, "end", "2026-03-29T02:30", "an offset"),
    ({"cron": "@daily", "start": "2026-12-24T18:00", "end": "2026-12-24T17:00"}, "end", "17:00:00Z", "no tick"),
    ({"at": "2026-12-24"}, "at", "'2026-12-24'", "write 2026-12-24T18:00"),
    ({"at": "2026-12-24T18:00", "every": "1d"}, "every", "86400.0", "leave one of them out"),
    ({"pause_after_failures": 0}, "pause_after_failures", "0", "whole number from 1"),
    ({"pause_after_failures": "3"}, "pause_after_failures", "'3'", "whole number from 1"),
    ({"exclusive": "yes"}, "exclusive", "'yes'", "True"),
    ({"exclusive": 1}, "exclusive", "1", "True"),
    ({"lock": "stock"}, "lock", "'stock'", "exclusive=True"),
    ({"lock": "a b", "exclusive": True}, "lock", "'a b'", "use 1 to 100"),
    ({"lock": "", "exclusive": True}, "lock", "''", "use 1 to 100"),
    ({"lock": "a" * 101, "exclusive": True}, "lock", "aaa", "use 1 to 100"),
    ({"lock": 5, "exclusive": True}, "lock", "5", "is not text"),
    ({"timeout": 0}, "timeout", "0s", "from 1s to 366d"),
    ({"timeout": "400d"}, "timeout", "400d", "from 1s to 366d"),
    ({"timeout": "2y"}, "timeout", "'2y'", NO_DURATION),
    ({"timeout": None}, "timeout", "None", "leave it out"),
    ({"timeout": 10**30}, "timeout", "1000000", "is not a duration"),
    ({"grace": "2h"}, "grace", "2h", "from 0s to 1h"),
    ({"grace": None}, "grace", "None", "leave it out"),
    ({"on_lost": "retry"}, "on_lost", "'retry'", "one of fail, rerun"),
    ({"on_lost": None}, "on_lost", "None", "leave it out"),
    ({"max_crashes": 0}, "max_crashes", "0", "whole number from 1"),
    ({"isolation": "fork"}, "isolation", "'fork'", "one of auto, clean, run"),
    ({"isolation": "clean", "command": ["ls"]}, "isolation", "'clean'", "leave it out"),
    ({"isolation": None}, "isolation", "None", "leave it out"),
    ({"at_most_once": "yes"}, "at_most_once", "'yes'", "True"),
    ({"retries": -1}, "retries", "-1", "whole number from 0"),
    ({"retries": 1001}, "retries", "1001", "to 1,000"),
    ({"retries": "3"}, "retries", "'3'", "whole number from 0"),
    ({"retries": None}, "retries", "None", "leave it out"),
    ({"retry_delay": "-1s"}, "retry_delay", "'-1s'", NO_DURATION),
    ({"retry_delay": "400d"}, "retry_delay", "400d", "from 0s to 366d"),
    ({"backoff": 0.5}, "backoff", "0.5", "a number from 1 to 100"),
    ({"backoff": 101}, "backoff", "101", "a number from 1 to 100"),
    ({"backoff": float("nan")}, "backoff", "nan", "a number from 1 to 100"),
    ({"backoff": True}, "backoff", "True", "a number from 1 to 100"),
    ({"backoff": 10**400}, "backoff", "1000", "a number from 1 to 100"),
    ({"backoff": None}, "backoff", "None", "leave it out"),
    ({"max_retry_delay": "0s", "backoff": 2}, "max_retry_delay", "0s", "from 1s to 366d"),
    ({"max_retry_delay": "2h"}, "max_retry_delay", "2h", "without backoff"),
    ({"max_retry_delay": "30s", "backoff": 2}, "max_retry_delay", "30s", "raise it"),
    ({"at_most_once": True, "retries": 1}, "at_most_once", "True", "leave one of them out"),
    ({"at_most_once": True, "on_lost": "rerun"}, "at_most_once", "True", "leave one of them out"),
    ({"queue": "a b"}, "queue", "'a b'", "use A-Z a-z 0-9 _ . -"),
    ({"queue": ""}, "queue", "''", "use A-Z a-z 0-9 _ . -"),
    ({"queue": 5}, "queue", "5", "use A-Z a-z 0-9 _ . -"),
    ({"result_ttl": 5}, "result_ttl", "5s", "at least 1m"),
    ({"failure_ttl": "59s"}, "failure_ttl", "59s", "at least 1m"),
    ({"failure_ttl": None}, "failure_ttl", "None", "leave it out"),
    ({"keep": 9}, "keep", "9", "whole number from 10"),
    ({"catchup": "all", "keep": 99}, "keep", "99", "raise keep or lower max_catchup"),
    ({"keep": True}, "keep", "True", "whole number from 10"),
    ({"keep": 10**9}, "keep", "1000000000", "to 100,000"),
    ({"description": 5}, "description", "5", "is not text"),
    ({"description": None}, "description", "None", "leave it out"),
    ({"owner": "a\nb"}, "owner", r"'a\nb'", "line break"),
    ({"runbook": "a\x00"}, "runbook", r"'a\x00'", "control character"),
    ({"tags": "billing"}, "tags", "'billing'", "list of words"),
    ({"tags": [1]}, "tags", "[1]", "list of words"),
    ({"tags": 5}, "tags", "5", "list of words"),
    ({"tags": None}, "tags", "None", "leave it out"),
    ({"args": "abc"}, "args", "'abc'", "list"),
    ({"args": 5}, "args", "5", "list"),
    ({"args": {"a": 1}}, "args", "{'a': 1}", "list"),
    ({"kwargs": 5}, "kwargs", "5", "mapping"),
    ({"kwargs": "ab"}, "kwargs", "'ab'", "mapping"),
    ({"kwargs": ["ab"]}, "kwargs", "['ab']", "mapping"),
    ({"kwargs": {1: 2}}, "kwargs", "1", "text"),
    ({"shell": True}, "shell", "True", "only a command"),
    ({"command": "ls -l"}, "command", "'ls -l'", "give a list of arguments, or shell=True"),
    ({"command": []}, "command", "[]", "list of words"),
    ({"command": ""}, "command", "''", "give a list of arguments"),
    ({"command": [""]}, "command", "['']", "list of words"),
    ({"command": ["  "]}, "command", "['  ']", "list of words"),
    ({"command": ["ls", 5]}, "command", "['ls', 5]", "list of words"),
    ({"command": ["ls", "a\0b"]}, "command", r"a\x00b", "list of words"),
    ({"command": b"ls"}, "command", "b'ls'", "list of words"),
    ({"command": 5}, "command", "5", "list of words"),
    ({"command": {"ls"}}, "command", "{'ls'}", "list of words"),
    ({"command": "", "shell": True}, "command", "''", "list of words"),
    ({"command": ["ls", "-l"], "shell": True}, "command", "['ls', '-l']", "one line of text"),
    ({"command": ["ls"], "shell": "yes"}, "shell", "'yes'", "True"),
    ({"command": ["ls"], "shell": "bin/sh"}, "shell", "'bin/sh'", "absolute path of a shell"),
    ({"command": ["ls"], "shell": 1}, "shell", "1", "True"),
    ({"command": ["ls"], "shell": None}, "shell", "None", "leave it out"),
    ({"env": {"A": "b"}}, "env", "{'A': 'b'}", "in its worker or in the function"),
    ({"command": ["ls"], "env": "A=b"}, "env", "'A=b'", "write env={'NAME': 'value'}"),
    ({"command": ["ls"], "env": {"A B": "c"}}, "env", "'A B'", "use A-Z a-z 0-9 _"),
    ({"command": ["ls"], "env": {"": "c"}}, "env", "''", "use A-Z a-z 0-9 _"),
    ({"command": ["ls"], "env": {"A=B": "c"}}, "env", "'A=B'", "use A-Z a-z 0-9 _"),
    ({"command": ["ls"], "env": {5: "c"}}, "env", "5", "use A-Z a-z 0-9 _"),
    ({"command": ["ls"], "env": {"A": 5}}, "env", "5", "must be text"),
    ({"command": ["ls"], "env": {"A": "b\0"}}, "env", r"b\x00", "without NUL bytes"),
    ({"command": ["ls"], "env": {"A": "x" * 40_000}}, "env", "40,001", "at most 32,768"),
    ({"command": ["ls"], "env": {"A": "\ud800"}}, "env", r"\ud800", "could be given"),
    ({"cwd": "/tmp"}, "cwd", "'/tmp'", "only a command"),
    ({"command": ["ls"], "cwd": "tmp"}, "cwd", "'tmp'", "absolute path"),
    ({"command": ["ls"], "cwd": "/a\0"}, "cwd", r"/a\x00", "absolute path"),
    ({"command": ["ls"], "cwd": 5}, "cwd", "5", "absolute path"),
    ({"run_as": "nobody"}, "run_as", "'nobody'", "only a command"),
    ({"command": ["ls"], "run_as": "0"}, "run_as", "'0'", "name of a user"),
    ({"command": ["ls"], "run_as": ""}, "run_as", "''", "name of a user"),
    ({"command": ["ls"], "run_as": "a b"}, "run_as", "'a b'", "name of a user"),
    ({"command": ["ls"], "run_as": "a\0"}, "run_as", r"a\x00", "name of a user"),
    ({"command": ["ls"], "run_as": 0}, "run_as", "0", "name of a user"),
    ({"command": ["ls"], "run_as": "ann", "env": {"LOGNAME": "bob"}}, "env", "'bob'", "leave it out"),
    ({"stdin": "x"}, "stdin", "'x'", "only a command"),
    ({"command": ["ls"], "stdin": b"x"}, "stdin", "b'x'", "text"),
    ({"command": ["ls"], "stdin": "x" * 70_000}, "stdin", "65,536", "read a file"),
    ({"command": ["ls"], "args": ["-l"]}, "args", "'-l'", "in its own list"),
    ({"command": ["ls"], "kwargs": {"a": 1}}, "kwargs", "{'a': 1}", "in its own list"),
    ({"command": ["ls"], "function": "jobs:nightly"}, "command", "['ls']", "either a function or a command"),
    ({"cron": "@daily", "only": 5}, "only", "5", "see `cronq calendar list`"),
    ({"cron": "@daily", "only": "work days"}, "only", "'work days'", "see `cronq calendar list`"),
    ({"cron": "@daily", "except_": ["a", None]}, "except_", "['a', None]", "see `cronq calendar list`"),
    ({"cron": "@daily", "except_": "a", "only": ["b", "a"]}, "except_", "'a'", "choose one"),
    ({"only": "work"}, "only", "work", "give cron or every"),
    ({"cron": "@daily", "depends_on": ["load", "a b"]}, "depends_on", "'a b'", "use 1 to 100 of the characters"),
    ({"cron": "@daily", "depends_on": "nightly"}, "depends_on", "the job itself", "leave that out"),
    ({"depends_on": "load"}, "depends_on", "load", "give cron or every"),
    ({"after": ["load", "load"]}, "after", "'load'", "name it once"),
    ({"after": "load", "cron": "@daily"}, "after", "cron='@daily'", "leave one out"),
    ({"backfill": True}, "backfill", "True", "give cron or every"),
    ({"after": "load", "backfill": True}, "backfill", "True", "leave it out"),
    ({"cron": "@daily", "backfill": "yes"}, "backfill", "'yes'", "neither True nor False"),
    ({"cron": "@daily", "backfill": True, "catchup": "skip"}, "catchup", "'skip'", "leave one of them out"),
    ({"cron": "@daily", "backfill": True, "window": "2d"}, "window", "2d", "leave one of them out"),
    ({"cron": "@daily", "backfill": True, "max_catchup": 7}, "max_catchup", "7", "leave one of them out"),
    ({"cron": "@daily", "backfill": True, "ttl": "1h"}, "ttl", "1h", "leave one of them out"),
    ({"cron": "@daily", "backfill": True, "overlap": "queue"}, "overlap", "'queue'", "leave one of them out"),
    ({"cron": "@daily", "backfill": True, "pause_after_failures": 3}, "pause_after_failures", "3", "leave one of them"),
    ({"after": "load", "on_parent_failure": "stop"}, "on_parent_failure", "'stop'", "wait, run"),
    ({"on_parent_failure": "run"}, "on_parent_failure", "'run'", "leave it out"),
]


@pytest.mark.parametrize(("options", "option", "value", "remedy"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_a_refusal_names_the_job_the_option_the_value_and_the_remedy(
    options: dict[str, Any], option: str, value: str, remedy: str
) -> None:
    text = refusal(**options)

    assert text.startswith(f"job 'nightly': {option}: ")
    assert value in text
    assert remedy in text


def test_every_option_is_in_the_table_of_refusals() -> None:
    options = set(JobSpec.__dataclass_fields__) - {"name", "function", "of", "own"}

    assert options - {option for _, option, _, _ in REFUSED} == set()


def test_a_bad_schedule_is_an_error_of_its_own_kind_with_the_job_in_it() -> None:
    with pytest.raises(ScheduleError) as refused:
        function_job(cron="* * 31 2 *", tz="Mars/Phobos")

    assert refused.value.job == "nightly"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("on", "db"),
        ("on_all", "web"),
        ("leases", {"mem": 4}),
        ("limits", {"memory": "1g"}),
        ("serializer", "pickle"),
    ],
)
def test_an_option_that_is_not_built_yet_is_refused_by_name_and_never_ignored(option: str, value: Any) -> None:
    text = refusal(**{option: value})

    assert text.startswith(f"job 'nightly': {option}: {value!r} is not supported by this version yet")


def test_an_option_that_is_not_built_may_be_given_the_value_that_changes_nothing() -> None:
    spec = function_job(serializer="json", on=None, env=None)
    absent = function_job(leases=None, serializer=None)

    assert spec == absent == function_job()


@pytest.mark.parametrize(
    ("option", "meant"),
    [("timout", "timeout"), ("retrys", "retries"), ("banana", None), ("queues", "queue"), ("crom", "cron")],
)
def test_an_unknown_option_is_refused_and_the_close_one_suggested(option: str, meant: str | None) -> None:
    text = refusal(**{option: 5})

    assert text.startswith(f"job 'nightly': {option}: there is no such option")
    assert f"did you mean {meant!r}?" in text if meant else "docs/jobs.md" in text


def test_a_job_needs_something_to_run() -> None:
    with pytest.raises(DefinitionError, match="either a function or a command"):
        make_spec("nightly", cron="@daily")


# What is accepted


@pytest.mark.parametrize("option", ["window", "ttl", "timeout", "grace", "result_ttl", "failure_ttl", "every"])
@pytest.mark.parametrize("written", [300, 300.0, "300", "300s", "5m", timedelta(minutes=5)])
def test_every_duration_may_be_written_in_every_form(option: str, written: Any) -> None:
    spec = function_job(**{option: written})

    assert getattr(spec, option) == 300.0
    assert spec.to_json() == function_job(**{option: "5m"}).to_json()


def test_a_job_without_a_schedule_is_run_by_hand() -> None:
    assert function_job().schedule is None


def test_the_schedule_follows_from_cron_every_and_at() -> None:
    assert str(function_job(cron="*/5 * * * *").schedule) == "*/5 * * * *"
    assert str(function_job(every="90s").schedule) == "every 1m30s"
    assert str(function_job(every="2d", at="10:00", tz="Asia/Tokyo").schedule) == "every 2d at 10:00"
    assert str(function_job(at="10:00").schedule) == "every 1d at 10:00"


def test_the_lock_of_an_exclusive_job_is_its_name_unless_it_names_another() -> None:
    assert function_job().lock_name is None
    assert function_job(exclusive=True).lock_name == "nightly"
    assert function_job(exclusive=True, lock="stock").lock_name == "stock"


def test_a_command_is_a_list_of_words_or_one_line_for_a_shell() -> None:
    listed = make_spec("tidy", command=["find", "/tmp/x y", "-delete", ""])
    line = make_spec("tidy", command="du -s | sort", shell=True)
    listed_line = make_spec("tidy", command=["du -s | sort"], shell=True)

    assert listed.command == ("find", "/tmp/x y", "-delete", "")
    assert line == listed_line
    assert line.command == ("du -s | sort",)


# Arguments


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, float("nan"), float("inf"), b"raw", datetime(2026, 11, 21), date(2026, 11, 21), 1j, print,
     [{"deep": [object()]}], {"a": {1: 2}}, {1: 2}, {None: 1}, {"a": {True: 1}}, {(1, 2): 3}],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),  # the same in each process
)  # fmt: skip
def test_an_argument_that_is_not_json_is_named(value: Any) -> None:
    by_place = refusal(args=["fine", value])
    by_name = refusal(kwargs={"fine": 1, "when": value})

    assert by_place.startswith("job 'nightly': args[1]: ")
    assert by_name.startswith("job 'nightly': kwargs['when']: ")
    assert repr(value)[:40] in by_place
    assert "text" in by_place


def test_an_argument_that_is_nested_without_end_is_refused_and_not_a_crash() -> None:
    bottomless: list[Any] = []
    for _ in range(100_000):
        bottomless = [bottomless]
    circular: list[Any] = []
    circular.append(circular)

    assert "args[0]" in refusal(args=[bottomless])
    assert "args[0]" in refusal(args=[circular])


def test_a_long_argument_is_not_repeated_whole() -> None:
    assert len(refusal(args=["x" * 100_000, {"y" * 100_000}])) < 400


def test_tuples_travel_as_lists() -> None:
    assert json.loads(dump_args((1, (2, 3)), {"a": (4,)})) == [[1, [2, 3]], {"a": [4]}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


# Storing

EVERYTHING = function_job(
    args=["é", "\N{SNOWMAN}", "\ud800", {"a": [1, {"b": None}]}], kwargs={"ключ": "значение"}, cron="0 7 * * 1-5",
    tz="Europe/Amsterdam", dst="both", catchup="all", window="2d", max_catchup=7, ttl="10m", overlap="allow",
    exclusive=True, lock="stock", timeout="2h", grace="30s", queue="heavy.duty", result_ttl="1d",
    failure_ttl="2d", keep=20, description="line\nbreak", owner="ann", runbook="https://wiki/x", tags=["a", "b"],
    on_lost="rerun", max_crashes=5, pause_after_failures=3, only=["work", "half-days"], except_="holidays",
    start="2026-12-24T18:00", end="2027-12-24T18:00+01:00", retries=3, retry_delay="2m", repeat=5,
    jitter="10s", warn_after="1h", backoff=1.5, max_retry_delay="2h", depends_on=["load", "prices"], priority=-7,
    isolation="run",
)  # fmt: skip
COMMAND = make_spec(
    "tidy", command="du | sort", shell=True, every="2d", at="10:00", env={"A": "b \udc80 é"}, cwd="/tmp", run_as="ann",
    stdin="x", at_most_once=True, anchor="2026-01-05",
)  # fmt: skip
IN_ORDER = function_job(cron="@daily", backfill=True)
KEYED = keyed_spec(function_job(), "user-42", {"every": "5m"})
TRIGGERED = function_job(after=["load", "prices"], on_parent_failure="run")
OF_COMMANDS = ("command", "shell", "every", "at", "anchor", "env", "cwd", "run_as", "stdin", "at_most_once")


@bounded
@given(
    st.lists(json_values, max_size=3),
    st.dictionaries(st.text(max_size=8), json_values, max_size=3),
    st.text(max_size=30),
    st.lists(st.text(max_size=8), max_size=3),
)
def test_a_spec_survives_being_stored(args: list[Any], kwargs: dict[str, Any], text: str, tags: list[str]) -> None:
    spec = function_job(args=args, kwargs=kwargs, description=text, tags=tags)

    stored = JobSpec.from_json(spec.to_json())

    assert stored == spec
    assert stored.to_json() == spec.to_json()
    assert json.loads(stored.args_json) == json.loads(spec.args_json) == [args, kwargs]
    assert "\n" not in spec.to_json()


def test_every_field_survives_being_stored() -> None:
    assert JobSpec.from_json(EVERYTHING.to_json()) == EVERYTHING
    assert JobSpec.from_json(COMMAND.to_json()) == COMMAND
    assert JobSpec.from_json(KEYED.to_json()) == KEYED
    assert JobSpec.from_json(TRIGGERED.to_json()) == TRIGGERED
    assert JobSpec.from_json(IN_ORDER.to_json()) == IN_ORDER
    specs = (EVERYTHING, COMMAND, KEYED, TRIGGERED, IN_ORDER)
    changed = {field for spec in specs for field in json.loads(spec.to_json())}
    assert changed == set(JobSpec.__dataclass_fields__)


def test_the_usual_shell_is_written_in_one_way() -> None:
    usual, named, other = (make_spec("j", command="ls", shell=shell) for shell in (True, "/bin/sh", "/bin/bash"))

    assert usual == named
    assert other.shell == "/bin/bash"


def test_equal_specs_give_equal_text_whatever_the_order_they_were_written_in() -> None:
    one = function_job(cron="@daily", timeout="1h", kwargs={"a": 1, "b": {"c": 2, "d": 3}}, tags=("x",))
    other = function_job(tags=["x"], kwargs={"b": {"d": 3, "c": 2}, "a": 1}, timeout=3600, cron="@daily")

    assert one == other
    assert one.to_json() == other.to_json()


def test_only_what_differs_from_the_defaults_is_stored() -> None:
    assert json.loads(function_job(every="5m").to_json()) == {
        "name": "nightly", "function": "jobs:nightly", "every": 300.0
    }  # fmt: skip


def test_a_change_of_the_lists_that_a_job_was_made_from_does_not_change_the_job() -> None:
    numbers, tags, kwargs = [1, 2], ["a"], {"deep": [1]}
    spec = function_job(args=[numbers], kwargs=kwargs, tags=tags)
    before = spec.to_json()

    numbers.append(3)
    tags.append("b")
    kwargs["deep"].append(2)

    assert spec.to_json() == before


#: The fields of layout 1, and the words of its options. Never to be added to: a release that is out knows just these.
FIRST_FIELDS = {
    "name", "function", "command", "shell", "env", "cwd", "run_as", "stdin", "args", "kwargs", "cron", "every", "at",
    "tz", "dst", "catchup", "window", "max_catchup", "ttl", "overlap", "exclusive", "lock", "timeout", "grace",
    "on_lost", "max_crashes", "at_most_once", "queue", "result_ttl", "failure_ttl", "keep", "description", "owner",
    "runbook", "tags",
}  # fmt: skip
FIRST_WORDS = {
    "catchup=latest", "catchup=skip", "catchup=all", "overlap=skip", "overlap=allow", "on_lost=fail", "on_lost=rerun",
    "dst=debian", "dst=skip", "dst=both",
}  # fmt: skip


def test_every_field_and_word_that_came_later_says_since_which_layout() -> None:
    words = {f"{option}={word}" for option, all_words in (*WORDS.items(), ("dst", DST_RULES)) for word in all_words}
    later = (set(JobSpec.__dataclass_fields__) - FIRST_FIELDS) | (words - FIRST_WORDS)

    assert set(SINCE) == later, "raise SPEC_LAYOUT in cronq/job.py and name what is new in SINCE"
    assert all(1 < layout <= SPEC_LAYOUT for layout in SINCE.values())
    assert max(SINCE.values(), default=1) == SPEC_LAYOUT


def test_a_spec_needs_the_newest_layout_of_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    for new, layout in {"owner": 2, "overlap=allow": 3, "dst": 4}.items():
        monkeypatch.setitem(SINCE, new, layout)

    assert function_job(cron="@daily").layout == 1
    assert function_job(cron="@daily", owner="ann").layout == 2
    assert function_job(cron="@daily", owner="ann", overlap="allow").layout == 3
    assert function_job(cron="@daily", dst="both", overlap="allow").layout == 4


def test_a_stored_spec_of_a_newer_layout_is_left_alone_without_being_read() -> None:
    with pytest.raises(SpecTooNew, match=r"job 'nightly': a newer cronq stored it \(in layout 99, .*; upgrade"):
        JobSpec.from_json("whatever that may be", name="nightly", layout=99)


def test_a_stored_spec_with_a_field_that_this_version_does_not_know_is_newer_and_not_damaged() -> None:
    with pytest.raises(SpecTooNew, match=r"'nightly': a newer cronq stored it \(with 'portal', .*; upgrade"):
        JobSpec.from_json('{"name": "nightly", "function": "jobs:nightly", "portal": 3}')
    with pytest.raises(SpecTooNew, match="with 'request'"):
        JobSpec.from_json('{"name": "nightly", "request": "https://example.com"}')


@pytest.mark.parametrize(("field", "value"), [("overlap", "newest"), ("catchup", "oldest"), ("dst", "solar")])
def test_a_stored_spec_with_a_word_that_this_version_does_not_know_is_newer_and_not_damaged(
    field: str, value: str
) -> None:
    stored = {"name": "nightly", "function": "jobs:nightly", "cron": "@daily", field: value}

    with pytest.raises(SpecTooNew, match=f"'nightly': .*{field}='{value}'"):
        JobSpec.from_json(json.dumps(stored))


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ('"grace": NaN', None), ('"ttl": NaN', None), ('"window": Infinity', None), ('"timeout": 1e999', None),
        ('"kwargs": {"a": [-Infinity]}', None), (f'"grace": {10**400}', "grace"), ('"grace": -1', "grace"),
        ('"ttl": 0', "ttl"), ('"ttl": -5', "ttl"), ('"result_ttl": 0', "result_ttl"), ('"failure_ttl": 1e300', None),
        ('"timeout": 0', "timeout"), ('"window": -1', "window"), (f'"args": {"[" * 5000}{"]" * 5000}', None),
        ('"exclusive": true, "lock": "a:b\\n"', "lock"), ('"lock": ""', "lock"), ('"tz": "Mars/Olympus"', "tz"),
        ('"cron": "61 * * * *"', "cron"), ('"every": 0', "every"), ('"every": 5, "cron": "@daily"', "cron"),
        ('"queue": "a b"', "queue"), ('"keep": 0', "keep"), ('"max_catchup": -1', "max_catchup"),
        (f'"keep": {10**30}', "keep"), ('"command": []', "command"), ('"command": ["true"]', "command"),
        ('"cwd": "/"', "cwd"), ('"name": "a:b"', "name"), ('"name": "a-20261121T070000Z"', "name"),
    ],
)  # fmt: skip
def test_a_stored_value_that_registration_would_refuse_is_damage(damage: str, field: str | None) -> None:
    text = f'{{"name": "nightly", "function": "jobs:nightly", {damage}}}'

    with pytest.raises(DefinitionError, match=r"the stored spec is damaged .*; run `cronq sync` again") as refused:
        JobSpec.from_json(text)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
    if field is not None:
        assert refused.value.field == field


def test_a_damaged_spec_is_damage_whatever_else_is_new_in_it() -> None:
    with pytest.raises(DefinitionError, match="grace: the stored spec is damaged"):
        JobSpec.from_json('{"name": "nightly", "function": "jobs:nightly", "portal": 3, "grace": -1}')


def test_a_stored_spec_is_that_of_the_job_it_stands_under() -> None:
    text = function_job(cron="@daily").to_json()

    assert JobSpec.from_json(text, name="nightly").name == "nightly"
    with pytest.raises(DefinitionError, match=r"job 'other': the stored spec is damaged .*'nightly'"):
        JobSpec.from_json(text, name="other")


def test_a_spec_of_before_with_options_that_registration_refuses_now_is_still_read() -> None:
    spec = JobSpec.from_json('{"name": "old", "function": "a:b", "cron": "@daily", "catchup": "all", "keep": 10}')

    assert (spec.keep, spec.max_catchup) == (10, 100)


def test_arguments_that_could_not_be_read_back_are_refused_at_once() -> None:
    deep: list[Any] = []
    for _ in range(95):
        deep = [deep]

    with pytest.raises(DefinitionError, match=r"args: .*nested more than 90 deep"):
        function_job(args=[deep])


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "5", "null", "{}", '"text"', '{"name": 5}', '{"name": null}', '{"function": "a:b"}'],
)
def test_a_stored_text_that_is_no_spec_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(DefinitionError, match="cronq sync"):
        JobSpec.from_json(text)


@pytest.mark.parametrize("field", sorted(set(JobSpec.__dataclass_fields__) - {"name"}))
def test_a_stored_value_of_a_wrong_type_is_refused_before_it_can_harm_a_beat(field: str) -> None:
    stored = {"name": "nightly", "function": "jobs:nightly", "cron": "* * * * *"}
    whole = COMMAND if field in OF_COMMANDS else KEYED if field in ("of", "own") else EVERYTHING
    whole = TRIGGERED if field in ("after", "on_parent_failure") else IN_ORDER if field == "backfill" else whole
    usual = json.loads(whole.to_json())
    wrong = [junk for junk in ("text", 5.5, True, None, [5], {"a": 5}) if type(junk) is not type(usual[field])]
    if field in ("shell", "result_ttl", "failure_ttl"):  # of these words are known, and others of a later version
        wrong.remove("text")
    if field == "env":
        wrong.append({"a": 5})
    if JobSpec.__dataclass_fields__[field].default is None:
        wrong.remove(None)

    for junk in wrong:
        with pytest.raises(DefinitionError, match=f"job 'nightly': {field}: .*cronq sync"):
            JobSpec.from_json(json.dumps(stored | {field: junk}))
