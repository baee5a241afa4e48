"""One table of options: spec, decorator, command line and `show` have the same ones with the same defaults."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any, get_overloads

import click
import pytest

from cronq.app.job_options import FACTORS
from cronq.cli.add import add_command
from cronq.cli.jobs import _ALWAYS_SHOWN, _TOLD_APART, _options_text
from cronq.errors import DefinitionError
from cronq.jobs.decorator import job
from cronq.jobs.options import DEFAULTS, OPTIONS, Kind, Option
from cronq.jobs.spec import JobSpec, make_spec

FIELDS = {item.name: item for item in dataclasses.fields(JobSpec)}
BY_NAME = {option.name: option for option in OPTIONS}


def test_the_table_names_each_field_of_a_spec_once() -> None:
    assert len(BY_NAME) == len(OPTIONS)
    assert set(BY_NAME) == set(FIELDS) - {"name", "function", "of", "own"}


def test_a_spec_that_says_nothing_has_the_defaults_of_the_table() -> None:
    spec = JobSpec(name="j")

    assert {name: getattr(spec, name) for name in BY_NAME} == DEFAULTS
    assert JobSpec.from_json(json.dumps({"name": "j", "function": "m:f"} | DEFAULTS)) == JobSpec("j", function="m:f")


def test_the_decorator_takes_these_options_with_these_defaults() -> None:
    signature = inspect.signature(get_overloads(job)[-1])
    given = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in ("name", "registry") and parameter.kind is not parameter.VAR_KEYWORD
    }

    assert set(given) == set(BY_NAME)
    assert {name for name, default in given.items() if default is None and DEFAULTS[name] not in (None, {})} == set()
    spec = make_spec("j", function="m:f", **{name: value for name, value in given.items() if value is not None})
    assert spec == JobSpec(name="j", function="m:f")


def test_the_command_line_has_a_flag_for_each_option_with_a_help_text() -> None:
    flags = {param.name: param for param in add_command.params if isinstance(param, click.Option)}

    assert set(flags) - {"url", "prefix", "debug"} == {option.name for option in OPTIONS if option.help}
    for option in OPTIONS:
        if option.help:
            words = flags[option.name].help
            assert words is not None
            assert words.startswith(option.help.removesuffix("."))
            for word in option.words:
                assert word in words, f"{option.name} does not tell of {word}"


def bounded() -> list[tuple[Option, Any]]:
    found: list[tuple[Option, Any]] = []
    for option in OPTIONS:
        if option.kind in (Kind.NUMBER, Kind.DURATION) and option.least > 0:
            found.append((option, option.least - 1))
        if option.kind is Kind.NUMBER or option.name in ("timeout", "grace"):
            found.append((option, option.most + 1))
        if option.kind is Kind.TEXT and option.most <= 10_000:
            found.append((option, "x" * (int(option.most) + 1)))
        if option.kind is Kind.WORD:
            found.append((option, "whatever"))
        if option.kind is Kind.FLAG:
            found.append((option, "yes"))
        if option.is_one_line:
            found.append((option, "two\nlines"))
    return found


@pytest.mark.parametrize(("option", "value"), bounded(), ids=lambda each: getattr(each, "name", None))
def test_what_the_table_forbids_is_refused_by_name(option: Option, value: Any) -> None:
    with pytest.raises(DefinitionError) as refused:
        make_spec("j", function="m:f", **{option.name: value})

    assert refused.value.field == option.name


@pytest.mark.parametrize("name", sorted(set(FIELDS) - _TOLD_APART - set(_ALWAYS_SHOWN)))
def test_show_tells_each_option_that_is_not_at_its_default(name: str) -> None:
    plain, changed = JobSpec(name="j"), dataclasses.replace(JobSpec(name="j"), **{name: 7777.0})

    assert f"{name}=" not in _options_text(plain)
    assert f"{name}={'7777' if name in FACTORS else '2h9m'}" in _options_text(changed)
