"""Crontabs: each construct of crontab(5) is read as cron reads it, and the rest refused with its reason."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronq.clock import boot_s
from cronq.config import process_zone_name
from cronq.definitions.crontab import CrontabLine, Fault, options_of, parse_crontab
from cronq.definitions.crontab_export import write_crontab, write_line
from cronq.definitions.crontab_import import Source, names_for
from cronq.jobs.spec import JobSpec, make_spec
from cronq.schedule.zone import machine_zone_name
from tests.unit.crontab_oracle import starts

DATA = Path(__file__).parents[1] / "data"
PACKAGES = sorted((DATA / "cron.d").iterdir())
OF_A_USER = (DATA / "crontab-of-a-user").read_bytes()


def only_line(text: str, **options: Any) -> CrontabLine:
    found = parse_crontab(text.encode(), **options)
    assert found.faults == []
    (line,) = found.lines
    return line


def only_fault(text: str, **options: Any) -> Fault:
    found = parse_crontab(text.encode(), **options)
    assert found.lines == []
    (fault,) = found.faults
    return fault


def spec_of(line: CrontabLine, name: str = "job") -> JobSpec:
    return make_spec(name, **options_of(line, user="ann", tz="UTC"))


# Lines


def test_blank_lines_and_comments_start_nothing() -> None:
    found = parse_crontab(b"\n  \t\n# a\n \t# b\n#0 0 * * * c\n")

    assert (found.lines, found.faults, found.notes) == ([], [], [])


@pytest.mark.parametrize(
    ("text", "cron", "command"),
    [
        ("0 5 * * * run it", "0 5 * * *", "run it"),
        ("0 5 * * * run it\n", "0 5 * * *", "run it"),
        ("0 5 * * * run it\r\n", "0 5 * * *", "run it"),
        (" \t0\t5  *\t * * \t run  it ", "0 5 * * *", "run  it "),
        ("@daily run it", "@daily", "run it"),
        ("@daily \t  run it", "@daily", "run it"),
        ("0 5 * * * a=b run", "0 5 * * *", "a=b run"),
        ("0 5 * * * # no comment", "0 5 * * *", "# no comment"),
        ("5-5/10 1-1,3 * * * x", "5 1,3 * * *", "x"),
        ("0 0 * jan-MAR sun-Tue,5 x", "0 0 * jan-MAR sun-Tue,5", "x"),
        ("0 5 * * * é", "0 5 * * *", "é"),
    ],
)
def test_a_line_is_five_fields_or_a_macro_and_a_command(text: str, cron: str, command: str) -> None:
    line = only_line(text)

    assert (line.cron, line.command, line.user, line.stdin) == (cron, command, None, None)


@pytest.mark.parametrize(
    ("written", "command", "stdin"),
    [
        (r"a", "a", None),
        (r"a\%b", "a%b", None),
        (r"a%", "a", ""),
        (r"a%b", "a", "b\n"),
        (r"a%b%c", "a", "b\nc\n"),
        (r"a%b%", "a", "b\n"),
        (r"a%%", "a", "\n"),
        (r"a%b\%c%d", "a", "b%c\nd\n"),
        (r"a%b\c", "a", "b\\c\n"),
        ("a%b\\", "a", "b\\\n"),
        ("a%b%\\", "a", "b\n\\"),
        (r"a\\b", r"a\b", None),
        (r"a\\%b", "a\\", "b\n"),
        (r"a\\\%b", "a\\%b", None),
        (r"a\n", r"a\n", None),
        ("a\\", "a\\", None),
        (r"date +\%d\%m", "date +%d%m", None),
    ],
)
def test_a_percent_sign_begins_what_the_command_reads(written: str, command: str, stdin: str | None) -> None:
    line = only_line(f"* * * * * {written}")

    assert (line.command, line.stdin) == (command, stdin)


@pytest.mark.parametrize("blanks", [" ", "\t", " \t  "])
@pytest.mark.parametrize("time", ["0 5 * * *", "@hourly"])
def test_a_system_crontab_has_a_user_column(blanks: str, time: str) -> None:
    line = only_line(f"{time}{blanks}www-data{blanks}run it", system=True)

    assert (line.user, line.command) == ("www-data", "run it")


def test_a_user_that_is_none_is_a_fault() -> None:
    fault = only_fault("0 5 * * * /bin/true --now", system=True, is_user=lambda name: name == "root")

    assert fault.reason == "there is no user '/bin/true' here; is this a crontab without a user column?"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("@reboot x", "@reboot is not a time; let the boot scripts of each machine call `cronq run NAME`"),
        ("@Daily x", "@Daily is not known to cron"),
        ("@every 5m x", "@every is not known to cron"),
        ("60 * * * * x", "minute 60 is outside 0-59"),
        ("* 24 * * * x", "hour 24 is outside 0-23"),
        ("* * 0 * * x", "day of month 0 is outside 1-31"),
        ("* * * 13 * x", "month 13 is outside 1-12 or JAN-DEC"),
        ("* * * * 8 x", "day of week 8 is outside 0-7 or SUN-SAT"),
        ("* * * * monday x", "day of week monday is outside"),
        ("5/10 * * * * x", "cron wants a range before the step; write 5-59/10"),
        ("*/0 * * * * x", "step 0"),
        ("50-10 * * * * x", "minute '50-10' runs backwards"),
        ("0 22-6 * * * x", "hour '22-6' runs backwards"),
        ("0 0 * * sat-sun x", "runs backwards"),
        ("1,,2 * * * * x", "minute '1,,2' is not understood"),
        ("*x * * * * x", "minute '*x' is not understood"),
        ("1#2 * * * * x", "is not understood"),
        ("0 0 L * * x", "day of month L is outside"),
        ("H * * * * x", "minute H is outside"),
        ("? * * * * x", "is not understood"),
        ("-5 * * * * x", "no leading -"),
        ("1 2 3 4", "only 4 of the five fields"),
        ("1", "there is only 1 of the five fields"),
        ("1 2 3 4 5", "no command follows the time"),
        ("1 2 3 4 5 %x", "no command stands before the %"),
        ("* * * * * * x", "the command begins with *"),
        ("@daily", "no command"),
        ("* * * * * " + "x" * 999, "longer than the 998 bytes"),
        ("* * * * * a\0b", "NUL"),
        ("MY-NAME=x", "'MY-NAME' is not the name of a variable"),
        ("1NAME = x", "'1NAME' is not the name of a variable"),
        ("=x", "minute"),
        ("just words", "minute just is outside"),
        ("CRON_TZ=Mars/Phobos", "CRON_TZ: 'Mars/Phobos' is not a time zone"),
    ],
)
def test_what_cannot_be_carried_over_is_a_fault_with_its_line_and_reason(text: str, reason: str) -> None:
    fault = only_fault(f"# first\n{text}\n")

    assert (fault.number, fault.text) == (2, text)
    assert reason in fault.reason
    assert fault.never == text.startswith("@reboot")


def test_bytes_that_are_no_text_are_a_fault_and_the_rest_goes_on() -> None:
    found = parse_crontab(b"0 1 * * * \xff\n0 2 * * * x\n")

    assert [(fault.number, fault.reason) for fault in found.faults] == [(1, "it is not UTF-8 text; convert it")]
    assert [line.number for line in found.lines] == [2]


@given(st.binary(max_size=200))
def test_no_bytes_whatever_make_it_raise(raw: bytes) -> None:
    for system in (False, True):
        for line in parse_crontab(raw, system=system).lines:
            assert line.command


# Variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A = b", "b"),
        ("  A\t=  b  ", "b"),
        ("A=b c  d", "b c  d"),
        ('A="b"', "b"),
        ('A = " b "  ', " b "),
        ("A=' b '", " b "),
        ("A=''", ""),
        ("A=", ""),
        ('A="it\'s"', "it's"),
        ("'A'=\"b\"", "b"),
        ('A=b"c', 'b"c'),
        ("A=$HOME/~", "$HOME/~"),
        ("A=b # c", "b # c"),
        ("A=b=c", "b=c"),
        ("A=b\r", "b"),
    ],
)
def test_a_variable_is_taken_as_it_stands(text: str, value: str) -> None:
    assert only_line(f"{text}\n* * * * * x").variables == {"A": value}


def test_a_variable_holds_for_the_lines_after_it() -> None:
    first, second, third = parse_crontab(b"* * * * * a\nA=1\n* * * * * b\nA=2\nB=3\n* * * * * c\n").lines

    assert (first.variables, second.variables, third.variables) == ({}, {"A": "1"}, {"A": "2", "B": "3"})


def test_some_variables_mean_something_to_cron() -> None:
    found = parse_crontab(
        b"LOGNAME=root\nSHELL=/bin/bash\nCRON_TZ=Asia/Tokyo\nTZ=UTC\nMAILTO=ann\nPATH=/opt\nHOME=/srv\n* * * * * x\n"
    )
    (line,) = found.lines

    assert (line.shell, line.tz) == ("/bin/bash", "Asia/Tokyo")
    assert line.variables == {"TZ": "UTC", "MAILTO": "ann", "PATH": "/opt", "HOME": "/srv"}
    assert found.notes == ["line 1: LOGNAME stays the name of the user, as under cron"]
    assert spec_of(line).tz == "Asia/Tokyo"


def test_below_a_zone_that_is_none_no_line_runs_by_another_clock() -> None:
    found = parse_crontab(b"CRON_TZ=Mars/Phobos\n* * * * * x\n")

    assert [fault.number for fault in found.faults] == [1]
    with pytest.raises(Exception, match="Mars/Phobos"):
        spec_of(found.lines[0])


def test_the_job_is_what_cron_would_do() -> None:
    line = only_line("MAILTO=bob\n0 5 * * 1 tar cz /srv%one%two")
    spec = spec_of(line)

    assert spec == make_spec(
        "job", cron="0 5 * * 1", command="tar cz /srv", shell=True, env={"MAILTO": "bob"}, stdin="one\ntwo\n",
        run_as="ann", tz="UTC", dst="debian",
    )  # fmt: skip


# Real ones


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.name)
def test_crontabs_of_debian_packages_are_carried_over_whole(path: Path) -> None:
    found = parse_crontab(path.read_bytes(), system=True)
    active = [
        text.split(maxsplit=6)
        for text in path.read_text().splitlines()
        if text.strip() and text.lstrip()[0] in "0123456789*"
    ]

    assert (found.faults, found.notes) == ([], [])
    assert [(line.cron.split(), line.user) for line in found.lines] == [(words[:5], words[5]) for words in active]
    for line, words in zip(found.lines, active, strict=True):
        assert line.command == words[6].replace("\\%", "%")
        assert line.stdin is None
        assert spec_of(line).schedule is not None


def test_of_a_users_crontab_with_everything_the_right_lines_are_refused() -> None:
    found = parse_crontab(OF_A_USER)

    assert [fault.number for fault in found.faults] == [9, 49, 50, *range(52, 63)]
    assert len(found.lines) == 30


EXPRESSIONS = sorted(
    {
        line.cron
        for raw, system in [(path.read_bytes(), True) for path in PACKAGES] + [(OF_A_USER, False)]
        for line in parse_crontab(raw, system=system).lines
        if line.command != "never"
    }
    | {
        "0 0 13 * 5", "0 0 */13 * 5", "0 0 13 * *", "0 0 1-7 * */7", "0 0 * * */2", "0 0 31 * *", "0 0 29 2 *",
        "0 0 31 2 1", "*,5 * * * *", "0 0 1,* * 1", "0 0 *,1 * 1", "59 23 31 12 *", "0 0 * * 0,7",
        "*/7 */5 */9 */5 */3", "0-59/59 0-23/23 28-31 2,12 1-5/2",
    }
)  # fmt: skip
STARTS = [datetime(2026, 11, 21, 13, 14, 15), datetime(2027, 2, 28, 23, 59), datetime(2027, 12, 31, 23, 59, 59)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("begin", STARTS, ids=str)
def test_the_next_100_ticks_are_those_of_cron(expression: str, begin: datetime) -> None:
    after = begin.replace(tzinfo=UTC)

    assert ticks_of(expression, "UTC", after, 100) == list(starts(expression, "UTC", after, 100))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_in_a_zone_with_summer_time_the_ticks_between_two_changes_are_those_of_cron(expression: str) -> None:
    after, end = datetime(2027, 4, 1, 5, 6, 7, tzinfo=UTC), datetime(2027, 10, 25, tzinfo=UTC).timestamp()
    wanted = [tick for tick in starts(expression, "Europe/Berlin", after, 20) if tick < end]

    assert ticks_of(expression, "Europe/Berlin", after, len(wanted)) == wanted


def ticks_of(expression: str, tz: str, after: datetime, count: int) -> list[int]:
    line = only_line(f"{expression} x")
    schedule = make_spec("job", **{**options_of(line, user="ann", tz=tz)}).schedule
    assert schedule is not None
    found = [int(after.timestamp())]
    while len(found) <= count:
        tick = schedule.next_after(found[-1])
        assert tick is not None
        found.append(tick)
    return found[1:]


# Names

HERE = Source("/etc/cron.d/shop", "box", "ann")


def named(text: str, own: dict[str, JobSpec] | None = None, taken: tuple[str, ...] = ()) -> dict[str, JobSpec]:
    lines = parse_crontab(text.encode(), system=True).lines
    names = names_for(lines, own or {}, [*(own or {}), *taken], HERE)
    assert len(set(names)) == len(names)
    return {name: spec_of(line, name) for name, line in zip(names, lines, strict=True)}


THREE = (
    "0 1 * * * ann /usr/bin/backup --all\n0 2 * * * ann [ -x /opt/tidy ] && /opt/tidy >/dev/null\n@daily bob echo hi\n"
)


def test_a_name_says_file_program_and_no_line_number() -> None:
    names = list(named(THREE))

    assert [name.rpartition("-")[0] for name in names] == ["shop-backup", "shop-tidy", "shop-echo"]
    assert names == list(named("\n# moved\n" + THREE))


def test_lines_in_another_order_keep_their_names() -> None:
    own = named(THREE)
    again = named("".join(reversed(THREE.splitlines(keepends=True))), own)

    assert again == own


def test_equal_lines_have_names_of_their_own_in_any_order() -> None:
    twice = "0 1 * * * ann same\n0 1 * * * ann other\n0 1 * * * ann same\n"
    own = named(twice)
    first, _, second = own

    assert second == f"{first}-2"
    assert named("0 1 * * * ann other\n0 1 * * * ann same\n0 1 * * * ann same\n", own) == own


@pytest.mark.parametrize(
    "edited",
    [
        "5 1 * * * ann /usr/bin/backup --all",
        "0 1 * * * ann /usr/bin/backup --all --quiet",
        "@daily ann /usr/bin/backup --all",
    ],
)
def test_a_line_whose_time_or_command_is_edited_is_the_same_job(edited: str) -> None:
    own = named(THREE)
    job = next(iter(own))
    again = named(THREE.replace("0 1 * * * ann /usr/bin/backup --all", edited), own)

    assert list(again) == list(own)
    assert again[job] != own[job]
    assert named(f"{edited}\n", again) == {job: again[job]}, "and so it stays"


def test_another_command_at_the_same_time_is_another_job() -> None:
    own = named(THREE)
    again = named(THREE.replace("/usr/bin/backup --all", "true"), own)

    assert len(set(again) - set(own)) == 1


def test_another_user_is_another_job() -> None:
    own = named(THREE)

    assert len(set(named(THREE.replace("ann /usr", "bob /usr"), own)) - set(own)) == 1


def test_a_name_that_somebody_else_has_is_not_taken() -> None:
    first = next(iter(named(THREE)))

    assert next(iter(named(THREE, taken=(first,)))) == f"{first}-2"


def test_an_edited_line_that_comes_back_beside_its_edit_is_a_job_of_its_own() -> None:
    own = named(THREE)
    edited = THREE.replace("--all", "--all --quiet")
    own = named(edited, own)
    both = named(edited + "0 1 * * * ann /usr/bin/backup --all\n", own)

    assert set(own) < set(both)
    assert {name: both[name] for name in own} == own


# The way back


@pytest.mark.parametrize("raw", [*(path.read_bytes() for path in PACKAGES)], ids=[path.name for path in PACKAGES])
def test_a_system_crontab_that_is_written_and_read_again_means_the_same(raw: bytes) -> None:
    specs = [spec_of(line, f"job-{at}") for at, line in enumerate(parse_crontab(raw, system=True).lines)]
    written = "\n".join(write_crontab(specs, system=True, user="ann"))

    assert same(parse_crontab(written.encode(), system=True).lines, specs)


def test_a_users_crontab_that_is_written_and_read_again_means_the_same() -> None:
    lines = [line for line in parse_crontab(OF_A_USER).lines if line.command != "never"]
    specs = [spec_of(line, f"job-{at}") for at, line in enumerate(lines)]
    written = "\n".join(write_crontab(specs, system=False, user="ann"))

    assert same(parse_crontab(written.encode()).lines, specs)


def same(lines: list[CrontabLine], specs: list[JobSpec]) -> bool:
    again = [spec_of(line, "job").to_json() for line in lines]
    before = [make_spec_again(spec).to_json() for spec in specs]
    return sorted(again) == sorted(before)


def make_spec_again(spec: JobSpec) -> JobSpec:
    values = {name: getattr(spec, name) for name in ("cron", "tz", "shell", "env", "stdin", "run_as", "command")}
    return make_spec("job", **values)


#: What ends a line somewhere, or talks to a terminal; a tab is a blank.
HAS_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
texts = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=("Cs",)), max_size=30)


@given(texts.map(lambda text: "x" + text), st.none() | st.lists(texts, max_size=4))
def test_what_is_written_reads_back_as_the_same_command_and_input(command: str, lines: list[str] | None) -> None:
    stdin = None if lines is None else "".join(f"{line}\n" for line in lines)
    written = write_line(
        make_spec("j", command=command, shell=True, stdin=stdin, cron="* * * * *"), system=False, user="a"
    )

    if written.reason is None:
        line = only_line(written.line)
        assert (line.command, line.stdin) == (command, stdin)
    else:
        has_control = HAS_CONTROL.search(command + "".join(lines or ()))
        assert "ends with a backslash" in written.reason or (has_control and "control character" in written.reason)


@given(texts)
def test_a_variable_that_is_written_reads_back_as_the_same(value: str) -> None:
    spec = make_spec("j", command=["x"], env={"A": value}, cron="* * * * *")
    text = "\n".join(write_crontab([spec], system=False, user="a"))

    if "cannot be written here" in text:
        assert "'" in value or '"' in value or HAS_CONTROL.search(value)
    else:
        assert parse_crontab(text.encode()).lines[0].variables == {"A": value}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"function": "jobs:work", "cron": "@daily"}, "it is the Python function jobs:work"),
        ({"command": ["x"]}, "run only by hand"),
        ({"command": ["x"], "every": "5m"}, "every 5m is not cron"),
        ({"command": ["x"], "cron": "0 0 7 * * *"}, "no seconds"),
        ({"command": ["x"], "cron": "H * * * *"}, "minute H is outside"),
        ({"command": ["x"], "cron": "0 0 L * *"}, "day of month L"),
        ({"command": ["x"], "cron": "0/5 * * * *"}, "0-59/5"),
        ({"command": ["x"], "cron": "@daily", "dst": "both"}, "no dst=both"),
        ({"command": "a\nb", "shell": True, "cron": "@daily"}, "more than one line"),
        ({"command": ["x"], "cron": "@daily", "stdin": "no end"}, "only whole lines"),
        ({"command": ["x"], "cron": "@daily", "env": {"A": "a\nb"}}, "the value of A"),
        ({"command": ["x"], "cron": "@daily", "run_as": "bob"}, "it runs as bob"),
        ({"command": ["x" * 2000], "cron": "@daily"}, "998 bytes"),
    ],
)
def test_what_cron_cannot_run_is_a_comment_with_its_reason(options: dict[str, Any], reason: str) -> None:
    (line,) = write_crontab([make_spec("job", **options)], system=False, user="ann")

    assert line.startswith("# job cannot be written here: ")
    assert reason in line


def test_words_are_quoted_for_the_shell_that_cron_brings_and_a_directory_is_entered() -> None:
    spec = make_spec("job", command=["echo", "a b", "100%", "$X"], cron="@daily", cwd="/srv/my files")

    assert write_line(spec, system=False, user="ann").line == "@daily cd '/srv/my files' && echo 'a b' 100\\% '$X'"


def test_a_system_crontab_needs_a_user() -> None:
    spec = make_spec("job", command=["x"], cron="@daily")

    assert "names no user" in str(write_line(spec, system=True, user="ann").reason)


def test_jobs_with_variables_of_their_own_do_not_get_those_of_others() -> None:
    specs = [
        make_spec(name, command=["x"], cron="@daily", env=env, run_as="ann")
        for name, env in [("a", {"A": "1"}), ("b", {"B": "1"}), ("c", {}), ("d", {"MAILTO": "x", "PATH": "/opt"})]
    ]
    text = list(write_crontab(specs, system=True, user="root"))

    read_again = parse_crontab("\n".join(text).encode(), system=True)
    assert [dict(line.variables) for line in read_again.lines] == [{}, {"A": "1"}]
    assert [line for line in text if "cannot" in line] == [
        "# b cannot be written here: it must not have A, set above; export it alone",
        "# d cannot be written here: it must not have A, set above; export it alone",
    ]


def test_mail_and_path_are_set_back_to_what_cron_does_without_them() -> None:
    specs = [
        make_spec(name, command=["x"], cron="@daily", env=env, run_as="ann")
        for name, env in [("a", {"MAILTO": ""}), ("b", {"PATH": "/opt"})]
    ]
    found = parse_crontab("\n".join(write_crontab(specs, system=True, user="root")).encode(), system=True)

    assert [dict(line.variables) for line in found.lines] == [{"MAILTO": ""}, {"MAILTO": "ann", "PATH": "/opt"}]


# This machine's zone


@pytest.mark.parametrize(
    ("link", "text", "wanted"),
    [
        ("/usr/share/zoneinfo/Europe/Berlin", None, "Europe/Berlin"),
        ("/usr/share/zoneinfo/posix/Asia/Tokyo", None, "Asia/Tokyo"),
        ("/usr/share/zoneinfo/Etc/UTC", "Europe/Paris", "UTC"),
        (None, "Europe/Paris\n", "Europe/Paris"),
        ("/somewhere/else", "America/New_York", "America/New_York"),
        (None, "no zone", None),
        (None, None, None),
    ],
)
def test_the_zone_of_the_machine_is_known_by_link_or_file(
    tmp_path: Path, link: str | None, text: str | None, wanted: str | None
) -> None:
    if link is not None:
        (tmp_path / "localtime").symlink_to(link)
    if text is not None:
        (tmp_path / "timezone").write_text(text)

    assert machine_zone_name(tmp_path) == wanted


@pytest.mark.parametrize(
    ("preferred", "wanted"),
    [
        ("Europe/Paris", "Europe/Paris"), (":Europe/Paris", "Europe/Paris"), ("Etc/UTC", "UTC"),
        (":/usr/share/zoneinfo/posix/Europe/Paris", "Europe/Paris"), ("CET-1CEST", "Asia/Tokyo"), ("", "Asia/Tokyo"),
    ],
)  # fmt: skip
def test_a_process_may_have_a_zone_of_its_own(monkeypatch: pytest.MonkeyPatch, preferred: str, wanted: str) -> None:
    monkeypatch.setenv("TZ", preferred)
    monkeypatch.setattr("os.path.realpath", lambda path: "/usr/share/zoneinfo/posix/Asia/Tokyo")

    assert process_zone_name() == wanted


def test_a_crontab_and_rq_schedulers_strings_have_the_same_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr("os.path.realpath", lambda path: "/usr/share/zoneinfo/posix/Europe/Berlin")

    assert process_zone_name() == machine_zone_name() == "Europe/Berlin"


def test_the_oracle_tells_apart_what_it_must() -> None:
    after = datetime(2026, 1, 1, tzinfo=UTC)

    assert [datetime.fromtimestamp(at, UTC).day for at in islice(starts("0 0 13 * 5", "UTC", after, 4), 4)] == [
        2,
        9,
        13,
        16,
    ]
    assert [datetime.fromtimestamp(at, UTC).day for at in islice(starts("0 0 */13 * 5", "UTC", after, 2), 2)] == [
        27,
        27,
    ]


def test_thousands_of_lines_find_their_jobs_soon() -> None:
    text = "".join(f"{at % 60} {at % 24} * * * ann /usr/bin/program-{at} --with {at}\n" for at in range(5000))
    own = named(text)
    edited = text.replace("--with", "--without")

    begun = boot_s()
    assert list(named(text, own)) == list(own)
    assert len(named(edited, own)) == 5000  # too many to be compared one by one
    assert boot_s() - begun < 5


def test_a_few_edited_lines_among_thousands_keep_their_jobs() -> None:
    text = "".join(f"{at % 60} {at % 24} * * * ann /usr/bin/program-{at} --with {at}\n" for at in range(2000))
    own = named(text)
    edited = text.replace("program-1500 --with", "program-1500 --without").replace("program-7 ", "program-7 -v ")

    assert list(named(edited, own)) == list(own)


@pytest.mark.parametrize("line", ["0 1 * * * date +%H", "@daily mail -s hello ann%How are you?"])
def test_a_command_that_ends_at_a_percent_sign_is_said(line: str) -> None:
    crontab = parse_crontab(line.encode())

    (note,) = crontab.notes
    assert note.startswith("line 1: the command ends before the %, as under cron: it is ")
    assert repr(crontab.lines[0].command) in note
    assert note.endswith("write \\% for a percent sign")


def test_an_escaped_percent_sign_is_not_worth_a_word() -> None:
    assert parse_crontab(rb"0 1 * * * date +\%H").notes == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "tidy\n* * * * * evil\n#"),
        ("command", ("true\n* * * * * evil",)),
        ("command", ("true\x1b]0;owned\x07",)),
        ("command", ("true\u2028* * * * * evil",)),
        ("cron", "@daily\n* * * * * evil"),
        ("cwd", "/tmp\n* * * * * evil"),
        ("stdin", "x\r* * * * * evil\n"),
        ("tz", "UTC\n* * * * * evil"),
        ("run_as", "ann\n* * * * * evil"),
        ("lock", "l\n* * * * * evil"),
        ("env", {"A": "b\n* * * * * evil"}),
        ("env", {"A\n* * * * * evil": "b"}),
    ],
)
@pytest.mark.parametrize("system", [False, True])
def test_no_stored_text_adds_a_line_to_a_crontab(system: bool, field: str, value: Any) -> None:
    sound = make_spec("j", command="true", shell=True, cron="* * * * *", exclusive=True, lock="l", run_as="ann")
    spec = dataclasses.replace(sound, **{field: value})

    lines = list(write_crontab([spec], system=system, user="ann"))

    assert all(line.splitlines() == [line] and "\x1b" not in line for line in lines)
    assert not any(line.startswith("* * * * * evil") for line in lines)
