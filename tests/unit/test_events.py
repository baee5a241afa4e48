"""The words of the event stream: what the scripts write, what `Event` lists and what the page explains are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cronq.db.scripts import names, source
from cronq.outcomes import OUTCOMES
from cronq.runs.events import Event

ROOT = Path(__file__).parents[2]
#: A call of the part `event`, up to the third of what it is given: stream, entries to keep, word.
CALL = re.compile(r"\b(?:try_)?event(?:\(|, )(?:[^,\n]+), (?:[^,\n]+), (?P<word>[^,\n]+),")


def words_of(script: str) -> Iterator[str]:
    """Every word that *script* may append."""
    code = "\n".join(line for line in source(script).splitlines() if not line.lstrip().startswith("--"))
    calls = [call["word"] for call in CALL.finditer(code) if call["word"] not in ("word", "...")]  # the part itself
    assert len(calls) == len(re.findall(r"\b(?:try_)?event(?:\(|, )(?!stream)", code)), script
    for given in calls:
        found = set(re.findall(r"(?<!~= )'(\w+)'", given))
        if not found:
            assert given in ("outcome", "item.outcome"), f"{script}: what is {given}?"
            found = set(OUTCOMES)
        yield from found


def test_scripts_write_the_words_that_are_listed_and_no_others() -> None:
    assert {word for script in names() for word in words_of(script)} == set(Event)


def test_each_word_names_the_scripts_that_write_it() -> None:
    text = (ROOT / "cronq" / "runs" / "events.py").read_text()
    text = re.sub(r"(?<=,)\n    #:(?= )", "", text)  # a list that goes on in the next line
    told = {match[2]: match[1] for match in re.finditer(r'#: .+: ([\w/,; ]+)\n    \w+ = "(\w+)"', text)}
    assert set(told) == set(Event) - set(OUTCOMES)

    for word, writers in told.items():
        named = {name.rpartition("/")[2] for name in re.split("[,;] ", writers)}
        assert named == {script.rpartition("/")[2] for script in names() if word in words_of(script)}, word


def test_nothing_else_writes_to_the_stream() -> None:
    for path in (ROOT / "cronq").rglob("*.py"):
        assert ".xadd(" not in path.read_text(), path
    for script in names():
        added = re.findall(r"'XADD', (\w[\w.\[\]]*)", source(script))
        assert set(added) <= {"stream", "refused"}, script  # of the parts, and the stream of rejected ids


def test_the_page_explains_every_word() -> None:
    section = (ROOT / "docs" / "glossary.md").read_text().partition("## What the event stream tells")[2]
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]

    assert sorted(word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])) == sorted(Event)
