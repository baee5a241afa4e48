"""The README and the pages of docs/ are true: what it names exists, what exists it names, and what it shows works."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_overloads

import click
import pytest

from cronq.cli.verbs import NOT_BUILT, VERBS, cli
from cronq.config import URL_NAMES, Config
from cronq.jobs.decorator import job
from cronq.jobs.options import CATCHUP, DEFAULTS, OPTIONS, OVERLAP
from cronq.jobs.spec import NOT_BUILT as OPTIONS_NOT_BUILT
from cronq.jobs.spec import JobSpec
from cronq.outcomes import OUTCOMES
from cronq.run_context import CurrentRun
from cronq.schedule.schedule import DST_RULES
from cronq.timetext import parse_duration_s
from tests.faces.test_cli_json import HISTORY_KEYS, LIST_KEYS, PROCESS_KEYS, SHOW_KEYS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
#: Every page by its name: `README`, `jobs`, `coming-from/crontab`.
PAGES = {"README": README} | {
    str(path.relative_to(ROOT / "docs").with_suffix("")): path.read_text()
    for path in sorted((ROOT / "docs").rglob("*.md"))
}
EVERYTHING = "\n".join(PAGES.values())
#: What a page without a reader in a hurry may not exceed: the README is a front door.
MOST_LINES_OF_README = 200
#: Set by cronq for a command job, not read by it.
TOLD_TO_COMMANDS = set(CurrentRun("j", "r", 0, 1, "h", None, None).environment())


def table_words(text: str) -> set[str]:
    """What stands in backticks in the first column of the tables of *text*."""
    rows = re.findall(r"^\| (.*?) \|", text.replace("\\|", "¦"), re.MULTILINE)
    return {word for row in rows for quoted in re.findall(r"`([^`]+)`", row) for word in [quoted]}


def fenced(kind: str, text: str = EVERYTHING) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def command_after(marker: str) -> str:
    """The command that .ci/run takes out of the README, by the same words."""
    script = rf"sed -n '/^<!-- {marker} -->$/,/^```$/p' README.md | grep -v -e '^<!--' -e '^```'"
    return subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_the_table_of_verbs(verb: str) -> None:
    assert verb in {words.split()[0] for words in table_words(PAGES["command-line"]) if words.strip()}


def test_the_table_of_verbs_names_no_other() -> None:
    words = {entry.split()[0] for entry in table_words(PAGES["command-line"])}

    assert words <= set(VERBS)


def _calls() -> list[tuple[str, ...]]:
    """Every call of cronq in the pages: in fences, and in backticks in the text."""
    lines = [
        line.removeprefix("$ ") for kind in ("sh", "console") for block in fenced(kind) for line in block.splitlines()
    ]
    lines += re.findall(r"`(cronq [^`]+)`", EVERYTHING)
    return [tuple(shlex.split(line)[1:]) for line in lines if line.startswith("cronq ")]


@pytest.mark.parametrize("words", sorted(set(_calls())), ids=" ".join)
def test_every_call_of_cronq_in_the_pages_has_a_verb_and_options_that_exist(words: tuple[str, ...]) -> None:
    if words in [("VERB", "--help"), ("VERB", "--json"), ("worker",)]:
        return
    assert words[0] in VERBS
    with click.Context(cli) as ctx:
        command = cli.get_command(ctx, words[0])
    assert command is not None
    if isinstance(command, click.Group) and len(words) > 1:
        assert words[1] in command.commands
        command = command.commands[words[1]]
    known = {flag for option in command.params for flag in option.opts} | {"--help"}
    ours = words[: words.index("--")] if "--" in words else words
    assert {word for word in ours if word.startswith("-")} <= known


#: Flags that the pages explain once for all verbs; those of `add` are the options of a job, and `crontab` has a page.
OF_ALL_VERBS = {"--url", "--prefix", "--debug", "--json", "--utc", "--help"}
ELSEWHERE = {"add": "jobs", "crontab": "coming-from/crontab"}


def flags_of(command: click.Command) -> set[str]:
    """One name of each flag, the shortest, that `--help` shows."""
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    own = {
        min(option.opts, key=len) for option in command.params if isinstance(option, click.Option) and not option.hidden
    }
    return own.union(*map(flags_of, inner)) - OF_ALL_VERBS


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ELSEWHERE])
def test_every_flag_of_a_verb_stands_in_its_row(verb: str) -> None:
    with click.Context(cli) as ctx:
        command = cli.get_command(ctx, verb)
    rows = [row for row in PAGES["command-line"].splitlines() if re.search(rf"^\| .*?`{verb}\b", row)]
    assert command is not None
    assert flags_of(command) - set(re.findall(r"--?[a-z][a-z-]*", "\n".join(rows))) == set()


@pytest.mark.parametrize(
    ("verb", "keys"),
    [("list", LIST_KEYS), ("show", SHOW_KEYS), ("history", HISTORY_KEYS), ("beats", PROCESS_KEYS),
     ("workers", PROCESS_KEYS | {"queues", "version", "revision", "replaced"})],
)  # fmt: skip
def test_the_keys_of_json_are_listed(verb: str, keys: set[str]) -> None:
    rows = dict(re.findall(r"^\| `([a-z -]+)` \| (.*) \|$", PAGES["json"], re.MULTILINE))
    listed = {
        name: set(re.findall(r"`(\w+)`", re.sub(r" \([^)]*\)", "", row.replace("the keys of `list`", ""))))
        for name, row in rows.items()
    }
    listed["show"] |= listed["list"]
    listed["workers"] = listed["workers"] - {"beats"} | listed["beats"]

    assert listed[verb] == keys


def test_every_option_of_job_is_in_the_table_of_options_and_no_other() -> None:
    (signature,) = [
        inspect.signature(each) for each in get_overloads(job) if "timeout" in inspect.signature(each).parameters
    ]
    options = {name for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD} - {"registry"}

    assert table_words(PAGES["jobs"]) == options
    assert options | {"function", "of", "own"} == {item.name for item in fields(JobSpec)}


def test_the_defaults_in_the_table_of_options_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (.*?`\w+`.*?) \| (.*?) \|", PAGES["jobs"], re.MULTILINE)
    said = {name: default.strip("`") for names, default in rows for name in re.findall(r"`(\w+)`", names)}

    assert set(said) == {*DEFAULTS, "name"}
    for name, default in DEFAULTS.items():
        if default in (None, (), {}, "") or name == "shell":
            assert said[name] in ("none", "empty", "the job's name", "the worker's user"), name
        else:
            assert said[name] == str(default) or parse_duration_s(said[name]) == default, name


def test_what_is_not_built_is_said_to_be_refused() -> None:
    refused = PAGES["jobs"].partition("**Refused by name")[2].split("\n\n")[0]

    for name in OPTIONS_NOT_BUILT:
        assert re.search(rf"`{name}[`=]", refused), name
    planned = re.search(r"verbs that are planned \((.*?)\)", PAGES["command-line"], re.DOTALL)
    assert planned is not None
    assert set(re.findall(r"`([a-z-]+)`", planned[1])) <= set(NOT_BUILT)


def test_rules_and_outcomes_are_all_explained() -> None:
    assert set(DST_RULES) == table_words(PAGES["schedules"]) - {"dst"}
    assert set(CATCHUP) == table_words(PAGES["missed-ticks"]) - {"catchup"}
    assert table_words(PAGES["outcomes"]) == set(OUTCOMES)
    for rule in OVERLAP:
        assert f"`{rule}`" in PAGES["jobs"]
        assert f"| `{rule}`" in PAGES["overlap"]


def test_every_setting_is_in_the_table_of_settings_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(CRONQ_\w+)`.*? \| (.*?) \|", PAGES["settings"], re.MULTILINE))
    config = Config()

    names = {item.name for item in fields(Config)} - {"origins"}
    assert set(rows) == {"CRONQ_REDIS_URL" if name == "url" else f"CRONQ_{name.upper()}" for name in names}
    assert rows["CRONQ_REDIS_URL"] == f"`{config.url}`"
    assert rows["CRONQ_KEEP_EVENTS"] == str(config.keep_events)
    assert rows["CRONQ_BATCH"] == str(config.batch)
    for name in ("lock_ttl", "lost_after", "keep_rows_for"):
        said = rows[f"CRONQ_{name.upper()}"].strip("`")
        assert Config.load({f"CRONQ_{name.upper()}": said}, directory=Path("/nonexistent")) == config, name
    for name in URL_NAMES:
        assert f"`{name}`" in PAGES["settings"]


def test_every_variable_that_the_readme_names_is_read_somewhere_and_the_other_way_round() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "workers").glob("*.py"))
    of_workers = set(re.findall(r"\bCRONQ_[A-Z_]+\b", source))
    of_settings = {f"CRONQ_{item.name.upper()}" for item in fields(Config)} | {"CRONQ_REDIS_URL"}

    assert table_words(PAGES["workers"]) >= of_workers
    assert set(re.findall(r"\bCRONQ_[A-Z_]+\b", EVERYTHING)) <= of_workers | of_settings | TOLD_TO_COMMANDS


def test_the_jobs_in_workers_are_those_of_the_table() -> None:
    script = (
        "import json, workers\nfrom cronq.jobs.registry import REGISTRY\n"
        "print(json.dumps({name: each.spec.cron for name, each in REGISTRY.definitions.items()}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", PAGES["workers"], re.MULTILINE))

    assert json.loads(done.stdout) == {name: cron for name, cron in rows.items() if name.islower()}


def test_the_example_of_a_job_module_is_accepted_as_it_stands(tmp_path: Path) -> None:
    example = README.partition("<!-- example -->")[2]
    (tmp_path / "jobs.py").write_text(fenced("python", example)[0])

    done = subprocess.run(
        [sys.executable, "-m", "cronq", "check-config", "jobs", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert json.loads(done.stdout) == {"jobs": ["hello", "nightly_report", "tidy"], "problems": []}
    assert done.returncode == 0


def test_the_example_of_a_resource_commits_what_returned_and_rolls_back_what_raised(tmp_path: Path) -> None:
    example = PAGES["jobs"].partition("## Resources of a run")[2]
    (tmp_path / "bookings.py").write_text(fenced("python", example)[0])
    script = (
        "import bookings, sqlite3\n"
        "bookings.book(amount=5)\n"
        "try:\n    bookings.book(amount=-5)\nexcept sqlite3.IntegrityError:\n    print('raised')\n"
        "print(*sqlite3.connect('shop.db').execute('select amount from bookings'))"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == "raised\n(1,) (5,)\n"


def test_the_example_of_what_may_stay_is_made_once_and_keeps_its_child(tmp_path: Path) -> None:
    example = PAGES["isolation"].partition("<!-- example -->")[2]
    (tmp_path / "prices.py").write_text(fenced("python", example)[0])
    script = (
        "import prices, sys\n"
        "from cronq.process.watchdog import Watchdog\n"
        "def work(order, result):\n    result.write(b'%d' % prices.note_price(order['item']))\n    return 0\n"
        "watchdog = Watchdog(work)\n"
        "watchdog.start()\n"
        "for item in ('tea', 'milk', 'tea'):\n"
        "    child = watchdog.spawn({'item': item}, is_reusable=True)\n"
        "    print(child.wait(10).replaced, child.result.read().decode(), child.pid)\n"
        "watchdog.close()\n"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    told = [line.split() for line in done.stdout.splitlines()]
    assert [words[:2] for words in told] == [["None", "1"], ["None", "2"], ["None", "2"]]
    assert len({pid for *_, pid in told}) == 1


def test_the_module_that_reads_definitions_of_chronos_makes_the_same_jobs_of_them(tmp_path: Path) -> None:
    (tmp_path / "chronos").mkdir()
    page = PAGES["coming-from/chronos"]
    monthly = '{"name": "monthly", "command": "true", "schedule": "R//P1M"}'
    given = [*fenced("json", page)]
    given += [
        f'{{"name": "from_{number}", "command": "true", "schedule": "{schedule}"}}'
        for number, schedule in enumerate(
            ["R3/2026-01-05T00:20:00+01:00/PT1H30M", "R//PT5M", "R/2026-01-05T23:00Z/P1W"]
        )
    ]
    for number, text in enumerate(given):
        (tmp_path / "chronos" / f"{number}.json").write_text(text)
    (tmp_path / "moved.py").write_text(fenced("python", page.partition("<!-- example -->")[2])[0])

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cronq", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    names = ["db_export-orders", "earnings_summary", "from_0", "from_1", "from_2"]
    assert json.loads(ask("check-config", "moved", "--json").stdout) == {"jobs": names, "problems": []}
    seen = ask("simulate", "moved", "--from", "2026-03-27T00:00Z", "--to", "2026-03-31T00:00Z", "--json").stdout
    ticks = [each["tick"] for each in json.loads(seen) if each["job"] == "db_export-orders"]
    assert ticks == ["2026-03-28T04:30:00Z", "2026-03-30T03:30:00Z"]
    first = ask("simulate", "moved", "--from", "2026-01-04T23:00Z", "--to", "2026-01-13T00:00Z", "--json").stdout
    assert [(each["job"], each["tick"]) for each in json.loads(first) if each["job"] in ("from_0", "from_2")] == [
        ("from_0", "2026-01-04T23:20:00Z"), ("from_0", "2026-01-05T00:50:00Z"), ("from_0", "2026-01-05T02:20:00Z"),
        ("from_2", "2026-01-05T23:00:00Z"), ("from_2", "2026-01-12T23:00:00Z"),
    ]  # fmt: skip

    (tmp_path / "chronos" / "9.json").write_text(monthly)
    assert "P1M has no fixed length: write that job by hand" in ask("check-config", "moved").stdout


def test_every_python_block_compiles() -> None:
    blocks = list(fenced("python"))

    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


def test_ci_finds_the_test_command_and_it_ends_with_the_tests() -> None:
    command = command_after("test command")

    assert len(command.splitlines()) == 1
    assert command.endswith("&& .venv/bin/pytest -n 3")
    assert ".venv/bin/pip install -q -e '.[dev,test]'" in command
    assert "sed -n '/^<!-- test command -->$/,/^```$/p' README.md" in (ROOT / ".ci" / "run").read_text()
    subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_command_that_runs_the_jobs_needs_no_argument() -> None:
    command = command_after("run command")

    assert command.endswith("&& .venv/bin/cronq dev")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cronq"]["jobs"] == ["workers"]


def test_nobody_is_sent_to_the_other_project_of_that_name() -> None:
    for name, text in {**PAGES, "CHANGELOG": (ROOT / "CHANGELOG.md").read_text()}.items():
        assert not re.search(r"pip install [^\n&|;`]*\bcronq\b(?!-rq)", text), name


def anchors(text: str) -> set[str]:
    """Where a link into a page may point, by the rule of the site that shows them."""
    lines = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    path = ROOT / "README.md" if name == "README" else ROOT / "docs" / f"{name}.md"
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        if link.startswith("http"):
            continue
        file_name, _, anchor = link.partition("#")
        target = (path.parent / file_name).resolve() if file_name else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README"])
def test_the_readme_leads_to_every_page(name: str) -> None:
    assert f"(docs/{name}.md)" in README


# Words

#: Phrases that once meant several things, and what is said instead.
RETIRED = {
    r"\bputs? (\w+ )?back\b|\bput-back\b": "woken, unpopped, repushed, rerun or requeued",
    r"\bsets? (\w+ )?aside\b": "parked, quarantined or rejected",
    r"\bplain `rq worker`": "stock worker",
    r"\b[Ff]oreign (jobs?|pickles?|runs?|RQ)\b": "an RQ job that is not cronq's",
}


@pytest.mark.parametrize("phrase", RETIRED)
def test_a_phrase_that_meant_several_things_is_used_no_more(phrase: str) -> None:
    found = {name: match[0] for name, text in PAGES.items() for match in re.finditer(phrase, " ".join(text.split()))}

    assert found == {}, RETIRED[phrase]


# Numbers


@pytest.mark.parametrize(
    ("page", "words", "package", "name", "number"),
    [
        ("jobs", "A description has at most 10,000 characters", "jobs", "description", 10_000),
        ("jobs", "an owner and a runbook 1,000 and one line each", "jobs", "owner", 1_000),
        ("jobs", "10 to 100,000; open runs stay", "jobs", "_MOST_KEPT", 100_000),
        ("jobs", "JSON of at most 1,000,000 bytes", "worker", "_MOST_RESULT", 1_000_000),
        ("jobs", "one line of at most 1,000 characters", "worker", "_MOST_REASON", 1_000),
        ("jobs", "at most 20,000 characters", "worker", "_MOST_ERROR", 20_000),
        ("jobs", "takes nothing for 5 s", "process", "_STUCK_S", 5),
        ("jobs", "at most 32,768 bytes", "jobs", "_MOST_ENV", 32_768),
        ("jobs", "`stdin` 65,536", "jobs", "_MOST_STDIN", 65_536),
        ("json", "the first 10,000 characters", "worker", "_MOST_SHOWN", 10_000),
        ("command-line", "has at most 1,000 characters", "jobs", "MOST_NOTE", 1_000),
        ("command-line", "more than 50 runs of a job", "app", "_FEW_RUNS", 50),
        ("start", "more than 8,192 characters", "cli", "_MOST_LINE", 8_192),
        ("rq-dashboard", "more than 256 KiB", "app", "_MOST_SHOWN", 256 * 1024),
        ("rq-tools", "ended after 30 s", "interop", "MOST_S", 30),
        ("rq-tools", "at most ten of a job", "interop", "_MOST", 10),
        ("rq-tools", "each in at most 10 s", "interop", "_MOST_EACH_S", 10),
        ("coming-from/rq-scheduler", "at most 64 KiB", "interop", "MOST_META", 64 * 1024),
        ("coming-from/rq-scheduler", "at most 1,000 deep", "interop", "_DEEPEST", 1_000),
        ("coming-from/rq-scheduler", "at most 1,000,000 objects", "interop", "_MOST_OBJECTS", 1_000_000),
        ("what-happens-when", "`timeout` plus `grace` plus 10 s", "process", "_PATIENCE_S", 10),
        ("what-happens-when", "is unpopped three times", "beat", "_MOST_UNPOPS", 3),
        ("missed-ticks", "within 60 s", "jobs", "LATE_S", 60),
        ("backfill", "begin more than 100 runs", "cli", "_MANY", 100),
        ("backfill", "at once, at most 1,000", "app", "MOST_AT_ONCE", 1_000),
    ],
)
def test_a_number_of_the_pages_is_that_of_the_code(page: str, words: str, package: str, name: str, number: int) -> None:
    options: dict[str, float] = {option.name: option.most for option in OPTIONS}
    modules = [
        importlib.import_module(f"cronq.{package}.{path.stem}")
        for path in (ROOT / "cronq" / package).glob("*.py")
        if re.search(rf"^{name} = ", path.read_text(), re.MULTILINE)
    ]

    assert words in " ".join(PAGES[page].split())
    assert number in ([options[name]] if name in options else [getattr(module, name) for module in modules])


# The log

#: What `interop.rq_scheduler` says of an entry, made of the code of its script, and a beat of ticks that do not run.
MADE_OF_CODES = {"BUSY", "MOVED", "DEFERRED", "DROPPED", "SKIPPED", "PAUSED", "MISSED", "COALESCED"}
LEVELS = {"info", "warning", "error", "exception", "log"}


def event_words() -> set[str]:
    """The words in capitals with which lines of the log begin."""
    texts = [
        part.value
        for path in (ROOT / "cronq").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS
        for argument in call.args[:2]
        for part in ast.walk(argument)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    return {found[1] for text in texts if (found := re.match(r"([A-Z][A-Z-]+(?: BACK)?)\b", text))}


def test_every_word_of_the_log_is_explained_and_no_other() -> None:
    assert table_words(PAGES["log"]) - {"word"} == event_words() | MADE_OF_CODES


# The code map

CODE_MAP = PAGES["code-map"]
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
PACKAGES = {path.parent.name for path in (ROOT / "cronq").glob("*/__init__.py")}


def rows_of_packages() -> list[tuple[str, list[str]]]:
    """Each row of the table of packages: its first word, and the modules that it names."""
    rows = re.findall(r"^\| (the root|`[a-z_]+/?`) \| .*? \| (.*?) \|$", CODE_MAP, re.MULTILINE)
    return [(name.strip("`/"), re.findall(r"`([a-z_/]+)`", modules)) for name, modules in rows]


def test_the_code_map_has_every_package_in_the_order_of_the_house() -> None:
    floors = {name.strip(): floor for floor, layer in enumerate(reversed(LAYERS)) for name in layer.split("|")}
    names = [name for name, _ in rows_of_packages() if name != "the root"]

    assert set(names) == PACKAGES | {"config"}
    assert [floors[name] for name in names] == sorted(floors[name] for name in names)


def test_the_code_map_names_modules_under_their_own_package() -> None:
    for name, modules in rows_of_packages():
        assert modules, name
        for module in modules:
            assert module.rpartition("/")[0] == (name if name in PACKAGES else ""), module


def test_every_module_and_script_that_the_code_map_names_is_there() -> None:
    named = set(re.findall(rf"\b(?:lua|{'|'.join(PACKAGES)})(?:/[a-z_]+)+\b", CODE_MAP))
    of_the_root = {module for name, modules in rows_of_packages() if name not in PACKAGES for module in modules}

    assert len(named) > 50
    for name in named | of_the_root:
        place = ROOT / "cronq" / name
        assert any(each.exists() for each in (place, place.with_suffix(".py"), place.with_suffix(".lua"))), name


def test_the_readme_is_a_front_door() -> None:
    assert len(README.splitlines()) < MOST_LINES_OF_README


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
