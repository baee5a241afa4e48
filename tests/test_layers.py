"""The house: import-linter holds its order (pyproject.toml); here stand the few rooms that may do what no other may."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "cronq"

ROOT = PACKAGE.parent
REDIS_LIBRARIES = {"redis", "rq", "rq_scheduler", "redis_lock"}
CLOCKS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "time.clock_gettime", "time.clock_gettime_ns", "time.gmtime", "time.localtime", "datetime.now", "datetime.utcnow",
    "datetime.today", "date.today", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today",
}  # fmt: skip
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}
#: What only the composition root builds.
BUILT_BY_APP = {"JobStore", "RunStore", "Claimer", "Changes", "Repair", "Sweep", "Reconcile", "Beat", "RqCron"}
MOST_MODULE_LINES = 500
MOST_FUNCTION_LINES = 48


@dataclass
class Source:
    """One file of the package."""

    path: Path
    tree: ast.Module
    imports: set[str] = field(default_factory=set)  #: dotted names, when the module is imported
    late_imports: set[str] = field(default_factory=set)  #: ... and inside functions

    @property
    def name(self) -> str:
        """`jobs.store`, `cli`; the package itself is ``."""
        return ".".join(self.path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")

    @property
    def package(self) -> str:
        """The package it stands in; `` for a module at the root."""
        return self.path.parent.name if self.path.parent != PACKAGE else ""


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


def modules(dotted: set[str]) -> set[str]:
    """Which modules of ours stand behind these imported names."""
    names = {source.name for source in sources()}
    found = set()
    for name in dotted:
        parts = name.split(".")
        if parts[0] == "cronq":
            inner = ".".join(parts[1:])
            found.add(inner if inner in names else ".".join(parts[1:-1]))
    return found


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


def test_import_linter_finds_the_order_of_the_house_kept() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    told = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert told.returncode == 0, told.stdout


def test_every_package_begins_with_an_empty_file() -> None:
    """A first import that does nothing: `import cronq` and `cronq --help` are quick because nobody fills these."""
    filled = {
        path.parent.name: path.read_text()
        for path in PACKAGE.rglob("__init__.py")
        if path.read_text() and path.parent.name not in ("cronq", "cli")
    }

    assert filled == {}


def test_every_module_at_the_root_is_pure() -> None:
    """Who adds one adds it to the contract as well; beside it are only the doors."""
    [pure] = [
        set(contract["source_modules"])
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if contract["name"].startswith("Pure modules")
    ]
    root = {source.name for source in sources() if source.package == "" and source.name}

    assert root - {name.removeprefix("cronq.") for name in pure} == {"__main__", "dashboard"}


def test_importing_the_package_and_the_command_line_brings_no_redis_and_no_rq() -> None:
    early = {source.name: libraries(source.imports) & REDIS_LIBRARIES for source in sources()}

    reached, todo = set(), {"", "cli", "cli.verbs", "__main__", "jobs.decorator"}
    while todo:
        name = todo.pop()
        reached.add(name)
        [source] = [each for each in sources() if each.name == name]
        todo |= modules(source.imports) - reached

    assert {name: early[name] for name in reached if early[name]} == {}


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

    assert extending == {"worker.worker"}


def test_only_the_worker_names_rqs_worker() -> None:
    naming = {
        source.name
        for source in sources()
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("rq.Worker", "rq.worker.Worker"))
        or (
            (isinstance(node, ast.ImportFrom) and node.module in ("rq", "rq.worker", "rq.worker.base"))
            and any(alias.name.endswith("Worker") for alias in node.names)
        )
    }

    assert naming == {"worker.worker"}


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
        if source.name not in ("app.parts", "app.beat_parts", "app.guarded")
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
        is_silent = source.path.read_text() != "" and source.name != "__main__"
        if is_silent and not ast.get_docstring(source.tree):
            silent.append(source.name)
        for node in source.tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
                continue
            overload = any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
            if not overload and not ast.get_docstring(node):
                silent.append(f"{source.name}.{node.name}")

    assert silent == []
