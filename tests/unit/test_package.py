"""`import cronq`: light, and yet every exported name is there, for people and for type checkers."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cronq
from cronq.cli import verb_among
from cronq.cli.verbs import VERBS, cli
from cronq.version import VERSION

TYPED = """
from typing import assert_type
from cronq import Cronq, CronqError, CurrentRun, Lock, Snooze, Worker, current_run, job, perform, snooze

@job("*/5 * * * *", tz="Europe/Amsterdam", timeout="10m")
def bill(customer: int, note: str = "") -> float:
    return 1.5

@job
def tidy(folder: str) -> None: ...

assert_type(bill(7), float)
assert_type(bill.enqueue(7, note="x"), str)
assert_type(bill.enqueue_in("5m", 7), str)
assert_type(tidy("/tmp"), None)
assert_type(current_run(), CurrentRun | None)
assert_type(snooze("30s"), Snooze)
assert_type(Cronq.from_env().lock("name"), Lock)
raise CronqError(str((perform, Worker)))
"""
MISTAKEN = """
from cronq import job

@job("* * * * *", tz=5)
def bill(customer: int) -> None: ...

@job("* * * * *")
def tidy(folder: str) -> None: ...

tidy.enqueue(7)
"""


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after *statement*."""
    script = f"import sys; {statement}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return set(told.stdout.split())


def test_a_guarded_command_brings_neither_rq_nor_the_application() -> None:
    heavy = {"rq", "rq_scheduler", "flask", "rq_dashboard", "cronq.app.app", "cronq.beat", "cronq.worker.worker"}

    assert loaded_by("import cronq.cli.exec, cronq.app.guarded") & heavy == set()


def mypy(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "jobs.py").write_text(text)
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-untyped-imports", "jobs.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    return told.stdout.splitlines()


def test_importing_the_package_loads_no_other_module_of_it() -> None:
    assert {name for name in loaded_by("import cronq") if name.startswith("cronq")} == {"cronq"}


def test_the_version_is_the_same_wherever_it_stands() -> None:
    document = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())

    assert cronq.__version__ == VERSION == document["project"]["version"]


def test_the_decorator_brings_no_redis_and_no_rq() -> None:
    assert not loaded_by("from cronq import current_run, job") & {"redis", "rq", "cronq.app.app"}


@pytest.mark.parametrize("name", cronq.__all__)
def test_each_exported_name_is_there_whatever_was_imported_before(name: str) -> None:
    said = f"from cronq.app.stock_worker import Cronq as _; import cronq; print(callable(cronq.{name}))"
    told = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, timeout=30)

    assert told.stdout == "True\n"
    assert name in dir(cronq)


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'cronq' has no attribute 'Crony'"):
        _ = cronq.Crony


def test_type_checkers_see_the_exported_names_and_the_signatures_of_jobs(tmp_path: Path) -> None:
    assert mypy(tmp_path, TYPED) == ["Success: no issues found in 1 source file"]

    told = mypy(tmp_path, MISTAKEN)
    assert {line.partition(": error: ")[0] for line in told if ": error: " in line} == {"jobs.py:4", "jobs.py:10"}


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        (["beat"], "beat"),
        (["beat", "worker"], "beat"),
        (["--debug", "worker", "-m", "beat"], "worker"),
        (["--url", "beat", "list"], "list"),
        (["--url=redis://x", "--prefix", "dev", "worker"], "worker"),
        (["--", "beat"], "beat"),
        (["show", "beat"], "show"),
        (["--url"], None),
        ([], None),
    ],
)
def test_the_verb_is_found_without_the_parser_and_as_the_parser_finds_it(words: list[str], verb: str | None) -> None:
    assert verb_among(words) == verb
    if verb is not None:
        context = cli.make_context("cronq", list(words), resilient_parsing=True)
        assert [*context._protected_args, *context.args][0] in VERBS
        assert [*context._protected_args, *context.args][0] == verb
