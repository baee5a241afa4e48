"""The `@job` decorator and loading modules that use it: nothing raises at import, everything is told with its place."""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cronq.errors import CronqError, DefinitionError
from cronq.jobs.decorator import JobHandle, job
from cronq.jobs.registry import REGISTRY, Definition, Registry, checked_call_json
from cronq.jobs.spec import JobSpec

HERE = Path(__file__).name


def line_of(text: str) -> int:
    """The number of the one line of this file that holds *text* as its comment."""
    lines = Path(__file__).read_text().splitlines()
    [found] = [number for number, line in enumerate(lines, 1) if line.endswith(f"# {text}")]
    return found


class Recorder:
    """Takes what `.enqueue` hands upward."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def enqueue(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        self.calls.append((name, args, kwargs))
        return f"{name}-m00000001"

    def enqueue_at(self, moment: datetime, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        raise NotImplementedError


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Write a module into an empty current directory; what it registers is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    kept = dict(REGISTRY.definitions), list(REGISTRY.problems), dict(REGISTRY.broken_modules)
    REGISTRY.definitions, REGISTRY.problems, REGISTRY.broken_modules = {}, [], {}

    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text("from cronq import job\n" + textwrap.dedent(text).lstrip("\n"))
        return path

    yield write
    REGISTRY.definitions, REGISTRY.problems, REGISTRY.broken_modules = kept
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def plain(mod: int = 1, rem: int = 0) -> int:
    """Return *mod* times ten, and *rem*."""
    return mod * 10 + rem


def fresh() -> Callable[..., int]:
    """A function that can be imported by the name of `plain` and carries nothing of other tests."""
    copy = type(plain)(plain.__code__, plain.__globals__, plain.__name__, plain.__defaults__)
    copy.__annotations__ = dict(plain.__annotations__)
    copy.__doc__, copy.__module__, copy.__qualname__ = plain.__doc__, plain.__module__, plain.__qualname__
    return copy


def problems(registry: Registry) -> list[str]:
    return [str(problem) for problem in registry.problems]


# What decorating does to a function


def test_a_decorated_function_is_the_same_plain_callable(registry: Registry) -> None:
    function = fresh()

    decorated = job("* * * * *", registry=registry)(function)

    assert decorated is function
    assert decorated(3, rem=4) == 34
    assert decorated.__name__ == "plain"
    assert decorated.__doc__ == plain.__doc__
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert registry.problems == []


def test_a_decorated_function_can_still_be_pickled_by_its_name(write_module: Callable[[str, str], Path]) -> None:
    write_module("pickled", '@job("* * * * *")\ndef tidy():\n    return 5\n')

    REGISTRY.load(["pickled"])

    module = sys.modules["pickled"]
    assert pickle.loads(pickle.dumps(module.tidy)) is module.tidy


def test_the_job_has_the_functions_name_and_where_it_stands(registry: Registry) -> None:
    job("*/5 * * * *", registry=registry)(fresh())  # the place

    definition = registry.definitions["plain"]
    assert definition.spec == JobSpec("plain", function=f"{__name__}:plain", cron="*/5 * * * *")
    assert definition.place.endswith(f"{HERE}:{line_of('the place')}")
    assert definition.module == __name__


def test_decorators_stack_to_several_jobs_of_one_function(registry: Registry) -> None:
    function = fresh()

    for mod in (0, 1):
        job("0 * * * *", name=f"shard-{mod}", kwargs={"mod": 2, "rem": mod}, registry=registry)(function)

    assert sorted(registry.definitions) == ["shard-0", "shard-1"]
    assert sorted(function.jobs) == ["shard-0", "shard-1"]  # type: ignore[attr-defined]
    assert function.jobs["shard-1"] == JobHandle("shard-1", registry)  # type: ignore[attr-defined]
    assert registry.definitions["shard-1"].spec.kwargs == {"mod": 2, "rem": 1}
    assert registry.problems == []


def test_a_decorator_without_parentheses_makes_a_job_to_run_by_hand(write_module: Callable[[str, str], Path]) -> None:
    write_module(
        "bare",
        """
        @job
        def by_hand(customer):
            return customer
        """,
    )

    REGISTRY.load(["bare"])

    assert problems(REGISTRY) == []
    assert REGISTRY.definitions["by_hand"].spec.schedule is None
    assert REGISTRY.definitions["by_hand"].place == "bare.py:2"


def test_without_a_registry_jobs_go_into_the_one_of_the_process(write_module: Callable[[str, str], Path]) -> None:
    write_module("usual", '@job("* * * * *")\ndef usual_job():\n    pass\n')

    REGISTRY.load(["usual"])

    assert list(REGISTRY.definitions) == ["usual_job"]


# Queueing


def test_enqueue_hands_the_job_and_its_arguments_to_the_application(registry: Registry) -> None:
    application = Recorder()
    registry.enqueuer = lambda: application
    decorated = job("* * * * *", registry=registry)(fresh())

    run_id = decorated.enqueue(2, rem=1)
    decorated.jobs["plain"].enqueue()

    assert run_id == "plain-m00000001"
    assert application.calls == [("plain", (2,), {"rem": 1}), ("plain", (), {})]


def test_enqueue_with_several_jobs_asks_which(registry: Registry) -> None:
    application = Recorder()
    registry.enqueuer = lambda: application
    function = fresh()
    job("0 * * * *", name="shard-0", registry=registry)(function)
    decorated = job("0 * * * *", name="shard-1", registry=registry)(function)

    with pytest.raises(CronqError, match=r"shard-0, shard-1; say which: plain.jobs\[NAME\].enqueue"):
        decorated.enqueue()

    decorated.jobs["shard-1"].enqueue()
    assert [name for name, _, _ in application.calls] == ["shard-1"]


def test_enqueue_of_a_refused_job_says_that_it_was_refused(registry: Registry) -> None:
    decorated = job("61 * * * *", registry=registry)(fresh())

    with pytest.raises(CronqError, match="refused; see `cronq check-config`"):
        decorated.enqueue()


def test_enqueue_without_an_application_says_how_to_make_one(registry: Registry) -> None:
    decorated = job("* * * * *", registry=registry)(fresh())

    with pytest.raises(CronqError, match=r"job 'plain': no application.*Cronq\(url\)"):
        decorated.enqueue()


def test_a_call_is_checked_against_the_function_before_it_is_queued(registry: Registry) -> None:
    job("* * * * *", registry=registry)(fresh())
    definition = registry.definitions["plain"]

    assert checked_call_json(definition, "plain", (1,), {"rem": 2}) == '[[1],{"rem":2}]'
    with pytest.raises(DefinitionError, match=r"job 'plain': args: .*unexpected keyword argument 'nope'"):
        checked_call_json(definition, "plain", (), {"nope": 1})
    with pytest.raises(DefinitionError, match=r"job 'plain': args\[0\]: .* is not JSON"):
        checked_call_json(definition, "plain", (object(),), {})
    with pytest.raises(DefinitionError, match=r"job 'elsewhere': kwargs\['a'\]: .* is not JSON"):
        checked_call_json(None, "elsewhere", (), {"a": b""})


# Commands


def test_a_command_job_is_a_statement(registry: Registry) -> None:
    handle = job("@daily", name="tidy", command=["true"], registry=registry)  # the command

    definition = registry.definitions["tidy"]
    assert definition.spec.command == ("true",)
    assert definition.function is None
    assert definition.module == __name__
    assert definition.place.endswith(f"{HERE}:{line_of('the command')}")
    assert handle.name == "tidy"


def test_a_command_job_without_a_name_is_told_so(registry: Registry) -> None:
    job("@daily", command=["true"], registry=registry)  # nameless

    [problem] = problems(registry)
    assert f"{HERE}:{line_of('nameless')}: name: " in problem
    assert "give name=" in problem


def test_a_command_job_that_decorates_a_function_is_told_so_and_leaves_the_function_alone(registry: Registry) -> None:
    @job("@daily", name="tidy", command=["true"], registry=registry)  # misused
    def innocent() -> int:
        return 5

    [problem] = problems(registry)
    assert problem.startswith("job 'tidy' (")
    assert f"{HERE}:{line_of('misused')}): command: " in problem
    assert "as a statement" in problem
    assert innocent() == 5


# Definitions that are refused


def test_two_jobs_of_one_name_are_refused_with_both_places(registry: Registry) -> None:
    first, second = fresh(), fresh()

    job("* * * * *", name="same", registry=registry)(first)  # the first
    job("@daily", name="same", registry=registry)(second)  # the second

    [problem] = problems(registry)
    assert problem.startswith("job 'same' (")
    assert f"{HERE}:{line_of('the second')}): name: " in problem
    assert f"{HERE}:{line_of('the first')}; give one of them another name=" in problem
    assert registry.definitions["same"].spec.cron == "* * * * *"  # the first one stays


def test_jobs_made_in_a_loop_that_forgets_their_names_are_refused_too(registry: Registry) -> None:
    function = fresh()

    for rem in (0, 1):
        job("0 * * * *", kwargs={"mod": 2, "rem": rem}, registry=registry)(function)  # the loop

    [problem] = problems(registry)
    assert f"{HERE}:{line_of('the loop')}" in problem
    assert "another name=" in problem
    assert registry.definitions["plain"].spec.kwargs == {"mod": 2, "rem": 0}


def test_a_module_that_is_imported_again_does_not_clash_with_itself(write_module: Callable[[str, str], Path]) -> None:
    path = write_module(
        "again",
        """
        @job("0 * * * *")
        def hourly():
            return "old"
        job("@daily", name="tidy", command=["true"])
        """,
    )
    REGISTRY.load(["again"])
    module = sys.modules["again"]
    old = REGISTRY.definitions["hourly"].function
    path.write_text(path.read_text().replace("old", "new").replace("@daily", "@weekly"))

    importlib.reload(module)

    assert problems(REGISTRY) == []
    assert old is not None
    assert old() == "old"
    assert REGISTRY.function_of("hourly")() == "new"
    assert REGISTRY.definitions["tidy"].spec.cron == "@weekly"


def holder() -> Callable[[], None]:
    def nested() -> None: ...

    return nested


class Holder:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...


class Callback:
    def __call__(self) -> None: ...


def yielding() -> Iterator[int]:
    yield 1


def of_the_script() -> None: ...


of_the_script.__module__ = "__main__"


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (holder(), "define it at the top of a module"),
        (lambda: None, "define it at the top of a module"),
        (Holder.method, "define it at the top of a module"),
        (Holder.static, "define it at the top of a module"),
        (of_the_script, "move it into a module"),
        (Holder().method, "decorate a plain function"),
        (Holder, "decorate a plain function"),
        (Callback(), "decorate a plain function"),
        (functools.partial(plain, 1), "decorate a plain function"),
        (print, "decorate a plain function"),
        (str.upper, "decorate a plain function"),
        (staticmethod(plain), "decorate a plain function"),
        (yielding, "would do nothing"),
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_what_a_worker_could_not_call_is_refused_and_left_as_it_is(
    function: Any, remedy: str, bare: bool, registry: Registry
) -> None:
    decorated = job(function, registry=registry) if bare else job("* * * * *", registry=registry)(function)

    [problem] = problems(registry)
    assert f"{HERE}:" in problem
    assert "function: " in problem
    assert remedy in problem
    assert decorated is function
    assert registry.definitions == {}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kwargs": {"nope": 1}}, "got an unexpected keyword argument 'nope'"),
        ({"args": [1, 2, 3]}, "too many positional arguments"),
        ({"args": [1], "kwargs": {"mod": 1}}, "multiple values for argument 'mod'"),
    ],
)
def test_arguments_that_do_not_fit_the_function_are_refused(
    options: dict[str, Any], complaint: str, registry: Registry
) -> None:
    job("* * * * *", registry=registry, **options)(fresh())

    [problem] = problems(registry)
    assert complaint in problem
    assert f"give args= or kwargs= that fit {__name__}:plain" in problem


def test_a_scheduled_function_with_a_required_argument_needs_it_given(write_module: Callable[[str, str], Path]) -> None:
    write_module("needy", '@job("@daily")\ndef needy(customer):\n    pass\n')

    REGISTRY.load(["needy"])

    [problem] = problems(REGISTRY)
    assert problem.startswith("job 'needy' (needy.py:2): kwargs: missing a required argument: 'customer'")


@pytest.mark.parametrize("option", sorted(set(JobSpec.__dataclass_fields__) | {"retries", "banana", "depends_on"}))
def test_no_option_however_wrong_raises_where_the_job_is_defined(option: str, registry: Registry) -> None:
    junk: list[Any] = [
        None,
        0,
        -1,
        1.5,
        float("nan"),
        10**400,
        True,
        "",
        "junk",
        "a\0b",
        b"x",
        (),
        [],
        [None],
        {},
        {1: 2},
    ]
    junk += [{"a"}, object(), print, Holder, datetime(2026, 11, 21), float("inf"), [[]], range(3)]

    for value in junk:
        job("* * * * *", registry=registry, **{option: value})(fresh())
        job("* * * * *", registry=registry, command=["true"], **{option: value} if option != "command" else {})
        if option == "command":
            job("* * * * *", registry=registry, name="tidy", command=value)

    assert all(HERE in problem for problem in problems(registry))


def test_options_that_say_one_thing_twice_are_refused(registry: Registry) -> None:
    job("* * * * *", cron="@daily", registry=registry)(fresh())
    job("* * * * *", function="elsewhere:it", registry=registry)(fresh())
    job("* * * * *", name="", registry=registry)(fresh())

    twice, function, name = problems(registry)
    assert "cron: ('* * * * *', '@daily') is not text" in twice
    assert "function: " in function
    assert "name: '' is not a job name" in name
    assert registry.definitions == {}


def test_the_expression_may_also_be_given_by_its_name(registry: Registry) -> None:
    job(cron="@daily", registry=registry)(fresh())

    assert registry.definitions["plain"].spec.cron == "@daily"


# Loading modules


def test_a_module_that_breaks_half_way_keeps_the_jobs_before_it(write_module: Callable[[str, str], Path]) -> None:
    write_module(
        "halfway",
        """
        @job("@hourly")
        def before():
            return "kept"

        x = 1 / 0

        @job("@hourly")
        def after():
            pass
        """,
    )

    REGISTRY.load(["halfway"])

    [problem] = problems(REGISTRY)
    assert problem.startswith(
        "halfway.py:6: the module 'halfway' cannot be imported: ZeroDivisionError: division by zero"
    )
    assert list(REGISTRY.definitions) == ["before"]
    assert REGISTRY.function_of("before")() == "kept"
    assert list(REGISTRY.broken_modules) == ["halfway"]
    with pytest.raises(CronqError, match=r"'after' is not defined in this worker.*halfway.py:6"):
        REGISTRY.function_of("after")


def test_one_bad_definition_does_not_take_its_neighbours_along(write_module: Callable[[str, str], Path]) -> None:
    write_module(
        "neighbours",
        """
        @job("@hourly")
        def first(): ...

        @job("61 * * * *")
        def bad(): ...

        @job("@hourly")
        def last(): ...
        """,
    )

    REGISTRY.load(["neighbours"])

    [problem] = problems(REGISTRY)
    assert problem.startswith("job 'bad' (neighbours.py:5): cron: ")
    assert sorted(REGISTRY.definitions) == ["first", "last"]
    with pytest.raises(DefinitionError, match=r"job 'bad' \(neighbours.py:5\)"):
        REGISTRY.function_of("bad")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("import sys\nsys.exit(3)\n", "broken.py:3", "SystemExit: 3"),
        ("raise SystemExit\n", "broken.py:2", "SystemExit"),
        ("def f(:\n    pass\n", "broken.py:2", "SyntaxError: "),
        ("x = 1\n  y = 2\n", "broken.py:3", "IndentationError: "),
        ("import no_such_module_anywhere\n", "broken.py:2", "ModuleNotFoundError: No module named"),
        ("from cronq import no_such_name\n", "broken.py:2", "ImportError: cannot import name 'no_such_name'"),
        ("def f():\n    raise KeyError('x')\n\nf()\n", "broken.py:3", "KeyError: 'x'"),
        ("import json\njson.loads('{')\n", "broken.py:3", "JSONDecodeError: "),
        ("import click\nclick.Option(['--é é'])\n", "broken.py:3", ""),
        ("from cronq.config import Config\nConfig.load({'CRONQ_BATCH': 'x'})\n", "broken.py:3", "ConfigError: "),
        ("eval('1 +')\n", "broken.py:2", "SyntaxError: "),
        ("raise ValueError('one\\ntwo')\n", "broken.py:2", "ValueError: one"),
        ("raise ValueError\n", "broken.py:2", "ValueError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_users_own_line(
    text: str, place: str, words: str, write_module: Callable[[str, str], Path]
) -> None:
    write_module("broken", text)

    REGISTRY.load(["broken"])

    [problem] = problems(REGISTRY)
    assert problem.startswith(f"{place}: the module 'broken' cannot be imported: {words}")
    assert "\n" not in problem


@pytest.mark.parametrize("module", ["no_such_module_anywhere", "broken.py", "", ".relative", "a b"])
def test_a_module_that_is_not_there_is_named(module: str, write_module: Callable[[str, str], Path]) -> None:
    REGISTRY.load([module])

    [problem] = problems(REGISTRY)
    assert f"the module {module!r} cannot be imported" in problem
    assert list(REGISTRY.broken_modules) == [module]


def test_an_import_inside_a_module_is_told_with_the_line_of_the_innermost_one(
    write_module: Callable[[str, str], Path],
) -> None:
    write_module("outer", "import inner\n")
    write_module("inner", "x = 1\nraise RuntimeError('inside')\n")

    REGISTRY.load(["outer"])

    [problem] = problems(REGISTRY)
    assert problem.startswith("inner.py:3: the module 'outer' cannot be imported: RuntimeError: inside")


def test_two_bad_modules_are_both_told_and_the_others_go_on(write_module: Callable[[str, str], Path]) -> None:
    write_module("bad_one", "1 / 0\n")
    write_module("good", '@job("@hourly")\ndef fine(): ...\n')
    write_module("bad_two", "import sys\nsys.exit()\n")

    REGISTRY.load(["bad_one", "good", "bad_two"])

    assert [problem.split(":")[0] for problem in problems(REGISTRY)] == ["bad_one.py", "bad_two.py"]
    assert list(REGISTRY.definitions) == ["fine"]


def test_a_broken_module_is_tried_again_and_not_told_twice(write_module: Callable[[str, str], Path]) -> None:
    path = write_module("mended", '@job("61 * * * *")\ndef wrong(): ...\n1 / 0\n')
    REGISTRY.load(["mended"])
    REGISTRY.load(["mended"])
    told = problems(REGISTRY)
    path.write_text(path.read_text().replace("1 / 0", "x = 1  # mended").replace("61", "1"))

    importlib.invalidate_caches()
    REGISTRY.load(["mended"])

    assert len(told) == 2
    assert problems(REGISTRY) == []
    assert REGISTRY.broken_modules == {}
    assert list(REGISTRY.definitions) == ["wrong"]


def test_the_current_directory_comes_first(
    write_module: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "shadowed.py").write_text("1 / 0\n")
    here = write_module("shadowed", '@job("@hourly")\ndef from_here(): ...\n').parent
    sys.path[:] = [str(elsewhere), str(here), *sys.path]

    REGISTRY.load(["shadowed"])

    assert problems(REGISTRY) == []
    assert list(REGISTRY.definitions) == ["from_here"]


def test_a_keyboard_interrupt_is_not_a_broken_module(write_module: Callable[[str, str], Path]) -> None:
    write_module("interrupted", "raise KeyboardInterrupt\n")

    with pytest.raises(KeyboardInterrupt):
        REGISTRY.load(["interrupted"])


def test_a_package_brings_the_jobs_of_the_modules_it_imports(
    write_module: Callable[[str, str], Path], tmp_path: Path
) -> None:
    package = tmp_path / "many"
    package.mkdir()
    (package / "__init__.py").write_text("from many import one, two\n")
    (package / "one.py").write_text('from cronq import job\n@job("@daily")\ndef one(): ...\n')
    (package / "two.py").write_text('from cronq import job\n@job("@daily")\ndef two(): ...\n')

    REGISTRY.load(["many"])

    assert {name: each.place for name, each in REGISTRY.definitions.items()} == {
        "one": "many/one.py:2", "two": "many/two.py:2"
    }  # fmt: skip
    assert isinstance(sys.modules["many"], ModuleType)
    assert isinstance(REGISTRY.definitions["one"], Definition)
