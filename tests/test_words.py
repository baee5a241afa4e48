"""One word for one thing, wherever people read: in what the command line says and in public docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from cronq.cli.verbs import VERBS, cli

PACKAGE = Path(__file__).parents[1] / "cronq"

#: Our word -> other people's words for the same thing.
INSTEAD = {
    "job": ("cron ?jobs?", "tasks?"),
    "tick": ("slots?", "firings?", "occurrences?", "fire times?"),
    "beat": ("schedulers?", "cron daemons?"),
    "run": ("invocations?", "executions?"),
    "ledger": ("journals?", "log ?books?"),
    "outcome": ("verdicts?", "exit states?", "final status(es)?"),
    "missed": ("misfires?", "misfired"),
    "guardian": ("babysitters?", "nann(y|ies)"),
    "lock": ("mutex(es)?", "semaphores?"),
    "fencing token": ("fence tokens?",),
    "host": ("nodes?",),
}
#: What these words may stand in: the trade's name for what cronq is, RQ's names for what is RQ's, and the flag that
#: says how many may hold a lock.
FINE = re.compile(
    r"\btask queue\b|\bjob:execution\b|\bexecution( ids)? of one RQ job\b"
    r"|\brq-?scheduler\b|\bscheduler-lock\b|--with-scheduler\b|--slots\b|\bstock schedulers?\b|`Scheduler[.\w]*`"
)


def texts_of_the_package() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        where = str(path.relative_to(PACKAGE.parent))
        yield where, ast.get_docstring(tree) or ""
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{where}:{node.lineno} {node.name}", ast.get_docstring(node) or ""


def texts_of_the_command_line() -> Iterator[tuple[str, str]]:
    context = click.Context(cli, info_name="cronq")
    yield "cronq --help", cli.get_help(context)
    for verb in VERBS:
        command = cli.get_command(context, verb)
        assert command is not None
        yield from help_of(command, context, f"cronq {verb}")


def help_of(command: click.Command, parent: click.Context, name: str) -> Iterator[tuple[str, str]]:
    context = click.Context(command, parent=parent, info_name=name.split()[-1])
    yield f"{name} --help", command.get_help(context)
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            inner = command.get_command(context, verb)
            assert inner is not None
            yield from help_of(inner, context, f"{name} {verb}")


@cache
def texts() -> list[tuple[str, str]]:
    return [(where, FINE.sub("", text)) for where, text in [*texts_of_the_package(), *texts_of_the_command_line()]]


@pytest.mark.parametrize("word", INSTEAD)
def test_each_thing_has_one_word_in_docstrings_and_in_the_help(word: str) -> None:
    other = re.compile(rf"\b({'|'.join(INSTEAD[word])})\b", re.IGNORECASE)

    found = [f"{where}: {match[0]!r}, say {word!r}" for where, text in texts() for match in other.finditer(text)]

    assert found == []


#: RQ's own words, in names of what is RQ's.
FINE_IN_NAMES = re.compile(r"\b(rq (cron )?scheduler|rq cron|with scheduler|maintenance tasks|executions?)\b")


def names_of(path: Path) -> Iterator[str]:
    """The names of a module and of its classes, functions and parameters, as words: `RunStore` is `run store`."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def in_single_words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", " ", name).strip().lower()


@pytest.mark.parametrize("word", INSTEAD)
def test_each_thing_has_one_word_in_names(word: str) -> None:
    other = re.compile(rf"\b({'|'.join(INSTEAD[word])})\b")
    paths = [*sorted(PACKAGE.rglob("*.py")), *sorted((PACKAGE.parent / "workers").rglob("*.py"))]
    names = {
        (path.stem, name, FINE_IN_NAMES.sub("", in_single_words(name))) for path in paths for name in names_of(path)
    }

    assert {f"{where}: {name}, say {word!r}" for where, name, words in names if other.search(words)} == set()


def test_every_verb_says_in_a_line_what_it_does() -> None:
    context = click.Context(cli, info_name="cronq")

    for verb, (_, line) in VERBS.items():
        command = cli.get_command(context, verb)
        assert command is not None
        assert command.help, verb
        assert line.endswith("."), verb
        assert len(line) < 70, verb


#: Whose log line it is: the kind of process; where several kinds come by, the lock, the definitions or the ledger.
LOGGERS = {
    "cronq", "cronq.beat", "cronq.worker", "cronq.lock", "cronq.exec", "cronq.jobs", "cronq.runs", "rq", "rq.worker",
    "werkzeug",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_a_log_line_says_whose_it_is_and_holds_its_facts_in_its_text(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]

    names = {ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "logging.getLogger"}
    hidden = [call.lineno for call in calls if any(word.arg == "extra" for word in call.keywords)]

    assert names <= {repr(name) for name in LOGGERS}
    assert hidden == []  # no formatter prints them
