"""One module spells the keys, its table is complete, and every script says what it takes and why it is one step."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cronq.db import keys as keys_module
from cronq.db.keys import Keys
from cronq.db.scripts import names, source

PACKAGE = Path(__file__).parents[1] / "cronq"
SCRIPTS = [PACKAGE / "lua" / f"{name}.lua" for name in names()]

#: What `Keys` also answers and is no key: patterns, channels, values, names that python-redis-lock makes keys of.
NO_KEYS = {"prefix", "fences", "wake", "lock_name", "holder"}


def name_of(script: Path) -> str:
    """`runs/claim`."""
    return str(script.relative_to(PACKAGE / "lua").with_suffix(""))


ROW = re.compile(r"^    (?P<keys>\S+(?:, \S+)*)  +(?P<type>STRING|SET|ZSET|HASH|LIST|STREAM|any)  +(?P<rest>.+)$")


def table() -> dict[str, tuple[str, str, str, str]]:
    """The table of keys.py: key -> type, holds, owner, life."""
    rows = {}
    for line in inspect.getdoc(keys_module).splitlines():  # type: ignore[union-attr]
        match = ROW.match(line)
        if match is not None:
            holds, owner, life = re.split(r" {2,}", match["rest"])
            for key in match["keys"].split(", "):
                rows[key] = (match["type"], holds, owner, life)
    return rows


@cache
def built() -> dict[str, str]:
    """Every key that `Keys` builds, with placeholders as in the table: key -> method."""
    found = {}
    keys = Keys("{prefix}")
    for name, member in inspect.getmembers(Keys):
        if name.startswith("_") or name in NO_KEYS:
            continue
        if isinstance(member, property):
            key = getattr(keys, name)
        else:
            wanted = [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
            key = member(keys, *("{" + parameter + "}" for parameter in wanted))
        found[key.removeprefix("{prefix}:")] = name
    return found


def alike(key: str) -> str:
    """*key* without the names of its placeholders."""
    return re.sub(r"\{[^}]*\}", "{}", key)


# The table


def test_the_table_has_a_row_for_every_key_and_every_row_is_a_key() -> None:
    rows = {alike(key) for key in table()}

    assert {alike(key) for key in built()} == rows
    assert rows  # the table was found


def test_every_key_has_an_owner_and_a_life() -> None:
    for key, (_, holds, owner, life) in table().items():
        assert holds.strip(), key
        assert life.strip(), key
        package, _, module = owner.partition(".")
        assert (PACKAGE / package / f"{module}.py").exists(), f"{key}: {owner!r} cannot own a key"


def test_installations_with_different_prefixes_share_no_key() -> None:
    ours, theirs = Keys("a"), Keys("b")

    for method in built().values():
        member = inspect.getattr_static(Keys, method)
        count = 0 if isinstance(member, property) else len(inspect.signature(member).parameters) - 1
        each = [
            getattr(keys, method) if not count else getattr(keys, method)(*["x"] * count) for keys in (ours, theirs)
        ]
        assert each[0] != each[1]


def test_no_key_of_a_job_can_be_that_of_another() -> None:
    keys = Keys()
    names = ["a", "b", "a-b", "state", "runs", "active", "job"]

    built_keys = [
        build(name)
        for name in names
        for build in (keys.job, keys.state, keys.template, keys.runs, keys.manual, keys.active, keys.waiting, keys.run)
    ]

    assert len(set(built_keys)) == len(built_keys)


# Who spells keys


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts of the code, docstrings left out; values in them are given as `{}`."""
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner.update(id(part) for part in node.values)
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents | inner:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_spells_a_key(path: Path) -> None:
    if path.name == "keys.py":
        return
    assert ":intermediate" not in path.read_text()
    nouns = sorted({alike(key).split(":")[0] for key in built()} - {"lock"})
    own = re.compile(rf"(cronq|\{{\}}):({'|'.join(map(re.escape, nouns))})(:|$)")

    spelled = [
        f"{path.name}:{line} {text!r}"
        for line, text in literals(ast.parse(path.read_text()))
        if re.match(r"(cronq|rq|lock|lock-signal):(\S|$)", text) or own.match(text)
    ]

    assert spelled == []


def test_scripts_build_keys_only_from_the_prefix_they_are_given() -> None:
    fixed = [
        f"{path.name}:{number} {line.strip()}"
        for path in SCRIPTS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if not line.lstrip().startswith("--") and re.search(r"""['"](cronq|lock|lock-signal):""", line)
    ]

    assert fixed == []


def test_scripts_take_what_rqs_keys_begin_with_from_one_value() -> None:
    rq_scheduler = re.compile(r"""['"]rq:(scheduler:scheduled_jobs|scheduler_lock)['"]""")  # that library's own
    fixed = [
        f"{path.name}:{number} {line.strip()}"
        for path in (PACKAGE / "lua").rglob("*.lua")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if not line.lstrip().startswith("--") and re.search(r"""['"]rq:""", rq_scheduler.sub("", line))
    ]

    assert fixed == []
    assert all("{RQ}" not in source(name) for name in names())


def test_the_functions_of_rqs_keys_take_it_from_there_too() -> None:
    own = {"RQ", "RQ_SCHEDULED_JOBS", "RQ_CRONQ_PREFIX"}  # the value, rq-scheduler's name, and one of ours beside RQ's
    spelled = [
        ast.unparse(node)
        for node in ast.parse(Path(keys_module.__file__).read_text()).body
        if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in own)
        and any(text.startswith("rq:") for _, text in literals(ast.Module([node], [])))
    ]

    assert [each.partition("\n")[0] for each in spelled] == ["def belongs_to_rq(key: str) -> bool:"]


# The scripts


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_begins_with_what_it_takes_what_it_returns_and_why_it_is_one_step(path: Path) -> None:
    lines = path.read_text().splitlines()
    head = "\n".join(lines[: next(index for index, line in enumerate(lines) if not line.startswith("--"))])

    first, _, rest = head.partition("\n")
    assert re.match(r"-- [A-Z]", first), "its first line says what it does"
    parts = [re.search(rf"^-- {word}", rest, re.MULTILINE) for word in ("KEYS ", "ARGV ", "Returns ", "One step, ")]
    assert None not in parts, head
    places = [part.start() for part in parts if part is not None]
    assert places == sorted(places)
    assert re.search(r"^-- One step, (because|for the same reasons)", head, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_reads_every_key_and_argument_that_its_head_names_and_no_other(path: Path) -> None:
    text = path.read_text()
    whole = source(name_of(path))  # with the parts that it shares with others
    code = "\n".join(line for line in whole.splitlines() if not line.lstrip().startswith("--"))
    for word in ("KEYS", "ARGV"):
        section = re.search(rf"^-- {word} (.*?)(?=^-- [A-Z])", text, re.MULTILINE | re.DOTALL)
        if section is None:
            assert f"{word}[" not in code
            continue
        named = {int(number) for number in re.findall(r"\s{2,}(\d+)(?=[ …])", "  " + section[1])}
        used = {int(number) for number in re.findall(rf"\b{word}\[(\d+)\]", code)}
        if re.search(rf"\b{word}\[\D|unpack\({word}|#{word}|ipairs\({word}\)", code):  # walks over them
            assert used <= named or "…" in section[1]
        else:
            assert used == named, f"{word}: named {named}, used {used}"


def test_scripts_keep_to_the_lines_and_the_words_of_the_house() -> None:
    """A run is parked, woken, rerun, requeued or repushed, an id unpopped or rejected, a key quarantined."""
    riddles = re.compile(r"\b(puts?( it)? back|sets?( it)? aside|moved aside)\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(PACKAGE)}:{number} {line.strip()}"
        for path in sorted((PACKAGE / "lua").rglob("*.lua"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 120 or riddles.search(line)
    ]

    assert found == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_never_scans_all_of_redis(path: Path) -> None:
    assert re.search(r"""['"](KEYS|FLUSHALL|FLUSHDB|RANDOMKEY)['"]""", path.read_text()) is None
    assert re.search(r"""['"]SCAN['"]""", path.read_text()) is None


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_is_used(path: Path) -> None:
    code = "\n".join(module.read_text() for module in PACKAGE.rglob("*.py"))

    assert f'"{name_of(path)}"' in code


def test_every_part_is_asked_for() -> None:
    asked = {
        part for path in (PACKAGE / "lua").rglob("*.lua") for part in re.findall(r"^--@ (\w+)$", path.read_text(), re.M)
    }

    assert asked == {path.stem for path in (PACKAGE / "lua" / "parts").iterdir()}
