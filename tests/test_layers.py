"""The layers of the house: who may import whom, and the few rooms that may do what nobody else may."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cronq"

#: From the ground up. A module imports from layers below or from modules before it in its own.
LAYERS: dict[str, tuple[str, ...]] = {
    "pure: no Redis": (
        "errors", "safetext", "replies", "outcomes", "clock", "current_run", "pattern", "zone", "cron", "schedule",
        "surroundings", "arguments", "options", "job", "retention", "pause", "crontab", "due", "lean_row", "run",
        "places", "registry", "sentinel_url", "config",
    ),
    "Redis words": (
        "keys", "scripts", "connection", "outage", "process", "rq_job", "tenure",
    ),
    "stores": (
        "stored_job", "job_store", "rq_records", "run_store", "stopping", "bulk_stop", "lock", "lease",
        "hosts", "installation", "history", "holds", "growth", "events",
    ),
    "acts: making runs": (
        "claim", "dependencies", "backfill", "delayed", "changes", "definitions", "crontab_jobs",
    ),
    "RQ's and rq-scheduler's own": (
        "pickles", "foreign_schedule", "foreign_job", "foreign_watch", "requeued", "serving", "held_back", "rq_cron",
        "adopt", "foreign_webhooks", "foreign_perform",
    ),
    "acts: beats": (
        "loss", "sweep", "open_runs", "compare", "waiting", "mend",
        "restore", "chores", "sender", "beat",
    ),
    "acts: running them": (
        "command", "capture", "channel", "result_file", "keeper", "watched_child", "watchdog", "child",
        "stop_request", "verdict", "recorder", "guarded", "guardian", "intake", "foreign_run", "worker_parts",
        "worker", "rq_options", "pool",
    ),
    "acts: telling": ("alerts", "metrics", "checks", "archive"),
    "the composition root": ("views", "app_parts", "beat_parts", "app", "rq_worker", "plain"),
    "faces": ("", "dashboard", "cli", "web", "testing", "__main__"),
}  # fmt: skip
ORDER = [module for layer in LAYERS.values() for module in layer]
PURE = (*LAYERS["pure: no Redis"], "pickles", "foreign_schedule")

#: RQ makes these two by their name, without an application: they fetch it when they are used, and not before.
REACH_UP_WHEN_CALLED: set[tuple[str, str]] = set()

#: What the command line uses besides: processes are started there, and a word of a person is read as JSON.
COMMAND_LINE_REACHES = {"chores", "command", "pool", "replies", "rq_worker", "worker"}

REDIS_LIBRARIES = {"redis", "rq", "rq_scheduler", "redis_lock"}
CLOCKS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "time.clock_gettime", "time.clock_gettime_ns", "time.gmtime", "time.localtime", "datetime.now", "datetime.utcnow",
    "datetime.today", "date.today", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today",
}  # fmt: skip
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}
#: What only the composition root builds.
BUILT_BY_APP = {"JobStore", "RunStore", "Claimer", "Changes", "Mender", "Sweep", "Comparison", "Beat", "RqCron"}
MOST_MODULE_LINES = 500
MOST_FUNCTION_LINES = 50


@dataclass
class Source:
    """One file of the package."""

    path: Path
    tree: ast.Module
    imports: set[str] = field(default_factory=set)  #: dotted names, when the module is imported
    late_imports: set[str] = field(default_factory=set)  #: ... and inside functions

    @property
    def name(self) -> str:
        """`job_store`, `cli.jobs`, `cli`; the package itself is ``."""
        return ".".join(self.path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")

    @property
    def room(self) -> str:
        """The name under which `LAYERS` knows it."""
        return self.name.split(".")[0]


def collect_imports(node: ast.AST, source: Source, *, inside: bool) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        found = source.late_imports if inside else source.imports
        if isinstance(child, ast.Import):
            found.update(alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{source.path}: import by the full name"
            found.update(f"{child.module}.{alias.name}" for alias in child.names)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        collect_imports(child, source, inside=inside or function)


@cache
def sources() -> tuple[Source, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = Source(path, ast.parse(path.read_text()))
        collect_imports(source.tree, source, inside=False)
        found.append(source)
    return tuple(found)


def rooms(dotted: set[str]) -> set[str]:
    """Which modules of ours stand behind these imported names."""
    names = {source.name for source in sources()}
    found = set()
    for name in dotted:
        parts = name.split(".")
        if parts[0] == "cronq":
            inner = ".".join(parts[1:])
            found.add(inner if inner in names else ".".join(parts[1:-1]))
    return {name.split(".")[0] for name in found}


def libraries(dotted: set[str]) -> set[str]:
    return {name.split(".")[0] for name in dotted}


def mentions(source: Source, names: set[str]) -> list[str]:
    """Where *names* are used, also when imported by themselves (`from time import monotonic`)."""
    places = [
        f"{source.name}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in names
    ]
    return places + [f"{source.name} imports {name}" for name in (source.imports | source.late_imports) & names]


def test_every_module_has_its_place_in_the_order() -> None:
    assert {source.room for source in sources()} - set(ORDER) == set()


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name or "cronq")
def test_a_module_imports_only_from_below_or_before(source: Source) -> None:
    own = ORDER.index(source.room)

    upward = {room for room in rooms(source.imports) if ORDER.index(room) > own}
    late = {room for room in rooms(source.late_imports) if ORDER.index(room) > own}

    assert upward == set()
    assert {(source.room, room) for room in late} <= REACH_UP_WHEN_CALLED


@pytest.mark.parametrize("source", [each for each in sources() if each.room in PURE], ids=lambda source: source.name)
def test_the_pure_modules_know_no_redis(source: Source) -> None:
    assert libraries(source.imports | source.late_imports) & REDIS_LIBRARIES == set()


def test_the_command_line_asks_the_application_and_knows_no_stores() -> None:
    allowed = {"app", "views", "config", "errors", "safetext", "clock", "outcomes", "schedule", "job", "options", "cli"}

    command_line = [source for source in sources() if source.room == "cli"]
    known = {room for source in command_line for room in rooms(source.imports | source.late_imports)}

    assert known - allowed == COMMAND_LINE_REACHES


def test_importing_the_package_and_the_command_line_brings_no_redis_and_no_rq() -> None:
    early = {source.name: libraries(source.imports) & REDIS_LIBRARIES for source in sources()}

    reached, todo = set(), {"", "cli", "__main__"}
    while todo:
        name = todo.pop()
        reached.add(name)
        [source] = [each for each in sources() if each.name == name]
        todo |= rooms(source.imports) - reached

    assert {name: early[name] for name in reached if early[name]} == {}


def test_only_the_lock_knows_redis_lock() -> None:
    users = {source.name for source in sources() if "redis_lock" in libraries(source.imports | source.late_imports)}

    assert users == {"lock"}


def test_only_delayed_jobs_know_rq_scheduler() -> None:
    users = {source.name for source in sources() if "rq_scheduler" in libraries(source.imports | source.late_imports)}

    assert users <= {"delayed"}


def bases(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            yield from (ast.unparse(base) for base in node.bases)


def test_only_the_worker_extends_rqs_worker() -> None:
    extending = {
        source.name
        for source in sources()
        if "rq" in libraries(source.imports | source.late_imports)
        and any(base.split(".")[-1].endswith("Worker") for base in bases(source))
    }

    assert extending == {"worker"}


def test_only_the_clock_reads_clocks() -> None:
    assert [place for source in sources() if source.name != "clock" for place in mentions(source, CLOCKS)] == []


def test_only_the_configuration_reads_the_environment() -> None:
    assert [place for source in sources() if source.name != "config" for place in mentions(source, ENVIRONMENT)] == []


def test_only_the_composition_root_builds_stores_and_beats() -> None:
    elsewhere = [
        f"{source.name}:{node.lineno} {node.func.id}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILT_BY_APP
        if source.name not in ("app_parts", "beat_parts")
    ]

    assert elsewhere == []


def test_no_module_is_too_long_to_be_read_at_once() -> None:
    lines = {source.name: len(source.path.read_text().splitlines()) for source in sources()}

    assert {name: count for name, count in lines.items() if count > MOST_MODULE_LINES} == {}


def test_no_function_is_too_long_to_be_read_at_once() -> None:
    lengths = {
        f"{source.name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: count for name, count in lengths.items() if count > MOST_FUNCTION_LINES} == {}


def test_every_public_module_class_and_function_says_what_it_is_for() -> None:
    silent = []
    for source in sources():
        if source.name != "__main__" and not ast.get_docstring(source.tree):
            silent.append(source.name)
        for node in source.tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
                continue
            overload = any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
            if not overload and not ast.get_docstring(node):
                silent.append(f"{source.name}.{node.name}")

    assert silent == []
