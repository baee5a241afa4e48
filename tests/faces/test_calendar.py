"""`cronq calendar` and the jobs that name calendars, as a person meets them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from cronq import Cronq
from tests.faces.conftest import Answer

Cli = Callable[..., Answer]


def on_terminal(*words: str, columns: int = 80) -> list[str]:
    """The lines that `cronq WORDS` shows on a terminal of so many columns."""
    screen, tty = pty.openpty()
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "cronq", *words]
    with subprocess.Popen(command, stdout=tty, stderr=subprocess.PIPE, env=environment) as process:
        os.close(tty)
        shown = b""
        while True:
            try:
                part = os.read(screen, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        process.communicate(timeout=30)
    os.close(screen)
    return shown.decode().splitlines()


def test_a_calendar_is_set_listed_shown_and_removed(app: Cronq, cronq: Cli) -> None:
    dates = ["--dates", "2026-12-25, 2026-12-26..2026-12-31", "--dates", "2027-01-01"]
    weekly = ["--weekly", "sat,sun", "--weekly", "fri 22:00-06:00"]
    said = cronq("calendar", "set", "off", *dates, *weekly, "--tz", "Europe/Berlin", "--note", "rest")
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("cronq: the calendar off holds sat,sun; fri 22:00-06:00; 2026-12-25, ")
    cronq("add", "report", "--cron", "0 7 * * *", "--except", "off", "--", "true")

    head, row = cronq("calendar", "list").out.splitlines()
    assert head.split() == ["NAME", "ZONE", "USED", "BY", "DAYS", "NOTE"]
    assert row.split()[:4] == ["off", "Europe/Berlin", "1", "job"]
    shown = cronq("calendar", "show", "off").out.splitlines()
    assert shown[0] == "name      off"
    assert "used by   report" in shown
    assert [line for line in shown if line.startswith("dates")] == [
        "dates     2026-12-25", "dates     2026-12-26..2026-12-31", "dates     2027-01-01"
    ]  # fmt: skip

    refused = cronq("calendar", "rm", "off")
    assert (refused.code, refused.out) == (75, "")
    assert "used by report; change them first, or give --force" in refused.complaint
    assert cronq("calendar", "rm", "off", "--force").code == 0
    assert cronq("calendar", "rm", "off").code == 2
    assert cronq("calendar", "show", "off").code == 2
    assert cronq("calendar", "list").out == ""


ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VEVENT
UID:1@test
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20200101
RRULE:FREQ=YEARLY
END:VEVENT
END:VCALENDAR
"""


def test_the_days_of_an_ics_file_are_stored_as_dates(app: Cronq, cronq: Cli, here: Path) -> None:
    pytest.importorskip("recurring_ical_events")
    (here / "new-year.ics").write_text(ICS)

    assert cronq("calendar", "set", "new-year", "--ics", "new-year.ics", "--dates", "2026-12-25").code == 0

    dates = [str(each) for each in app.read_calendar("new-year").dates]
    assert "2026-12-25" in dates
    assert len([each for each in dates if each.endswith("-01-01")]) in (5, 6)


@pytest.mark.parametrize("content", ["", "nonsense", ICS.replace("BEGIN:VEVENT", "")])
def test_an_ics_file_that_is_none_is_refused_in_one_line(app: Cronq, cronq: Cli, here: Path, content: str) -> None:
    pytest.importorskip("recurring_ical_events")
    (here / "odd.ics").write_text(content)

    said = cronq("calendar", "set", "odd", "--ics", "odd.ics")

    assert (said.code, said.out) == (78, "")
    assert "calendar 'odd': " in said.complaint
    assert app.client.exists(app.keys.calendars) == 0
    assert cronq("calendar", "set", "odd", "--ics", "gone.ics").code == 2


def test_calendars_as_json(app: Cronq, cronq: Cli) -> None:
    cronq("calendar", "set", "holidays", "--dates", "2026-12-25")
    cronq("add", "report", "--cron", "0 7 * * *", "--only", "holidays", "--", "true")

    (row,) = json.loads(cronq("calendar", "list", "--json").out)

    assert row == json.loads(cronq("calendar", "show", "holidays", "--json").out)
    assert row.pop("set_at").endswith("Z")
    assert row.pop("by")
    assert row == {
        "name": "holidays", "dates": ["2026-12-25"], "weekly": [], "timezone": None, "note": None, "jobs": ["report"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["set", "off"], "calendar 'off': it would hold no day; give dates or weekly hours"),
        (["set", "off", "--dates", "2026-02-30"], "'2026-02-30' is no date; write 2026-12-25"),
        (
            ["set", "off", "--weekly", "sat", "--tz", "Berlin"],
            "'Berlin' is not a time zone; did you mean",
        ),
        (["set", "a b", "--weekly", "sat"], "'a b' cannot name a calendar"),
    ],
)
def test_what_is_no_calendar_is_refused_in_one_line_and_stores_nothing(
    app: Cronq, cronq: Cli, words: list[str], told: str
) -> None:
    said = cronq("calendar", *words)

    assert (said.code, said.out) == (78, "")
    assert told in said.complaint
    assert app.client.exists(app.keys.calendars) == 0


def test_a_job_that_names_an_unknown_calendar_is_refused_in_one_line(app: Cronq, cronq: Cli) -> None:
    said = cronq("add", "report", "--cron", "0 7 * * *", "--only", "work", "--", "true")

    assert said.code == 78
    assert "job 'report': only: there is no calendar 'work'; make it with" in said.complaint
    assert app.job_names() == []


def test_show_tells_the_calendars_of_a_job(app: Cronq, cronq: Cli) -> None:
    app.set_calendar("a", weekly=["sat"])
    app.set_calendar("b", weekly=["sun"])
    app.add("report", command=["true"], cron="@daily", only="a", except_=["b"])

    assert "only=a except_=b" in cronq("show", "report").out


def test_a_table_of_calendars_fits_a_terminal(app: Cronq, cronq: Cli) -> None:
    app.set_calendar("holidays", dates=[f"2026-{month:02d}-01" for month in range(1, 13)], note="a note " * 20)

    assert all(len(line) <= 80 for line in on_terminal("calendar", "list"))
    assert all(len(line) <= 80 for line in on_terminal("calendar", "set", "--help"))


JOBS = """
from cronq import job

@job("@daily", only="work")
def report(): ...
"""


def test_sync_and_check_config_tell_of_unknown_calendars(here: Path, shell: Cli, app: Cronq) -> None:
    (here / "jobs.py").write_text(JOBS)
    words = "job 'report' (jobs.py:4): only: there is no calendar 'work'; make it with `cronq calendar set work ...`"

    checked = shell("check-config", "jobs")
    assert (checked.code, checked.out.strip()) == (78, words)
    synced = shell("sync", "jobs")
    assert synced.code == 78
    assert words in synced.err
    assert app.job_names() == ["report"]

    app.set_calendar("work", weekly=["mon-fri"])
    assert shell("sync", "jobs").code == 0
    assert shell("check-config", "jobs").code == 0


def test_check_config_needs_no_redis_for_them(bare: Path, shell: Cli) -> None:
    (bare / "jobs.py").write_text(JOBS)

    said = shell("check-config", "jobs", "--url", "redis://127.0.0.1:1/0")

    assert said.code == 0
    assert "the calendars that jobs name were not looked for: cannot reach Redis at redis://127.0.0.1:1/0" in said.err


def test_simulate_says_for_what_it_needs_a_redis(bare: Path, shell: Cli) -> None:
    (bare / "jobs.py").write_text(JOBS)
    (bare / "family.py").write_text(
        "from cronq import job\n"
        "@job('@daily', depends_on='load')\ndef report(): ...\n"
        "@job('@daily', depends_on=['load', 'other'])\ndef bill(): ...\n"
    )
    span = ("--from", "2026-01-05", "--to", "2026-01-06", "--url", "redis://127.0.0.1:1/0")

    calendars, parents = shell("simulate", "jobs", *span), shell("simulate", "family", *span)

    assert calendars.code == parents.code == 69
    assert calendars.complaint.startswith("cronq: cannot reach Redis at redis://127.0.0.1:1/0")
    assert calendars.complaint.endswith("; it is asked for the calendar 'work'")
    assert parents.complaint.endswith("; it is asked for the parent 'load' and 1 more")
