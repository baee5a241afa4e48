"""`cronq crontab import` and `export`, and `cronq ghosts`: what a person who comes from cron sees."""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cronq import Cronq
from tests.faces.conftest import Answer, pass_at
from tests.unit.crontab_oracle import starts

Cli = Callable[..., Answer]
DATA = Path(__file__).parents[1] / "data"
ME = pwd.getpwuid(os.geteuid()).pw_name
SMALL = "MAILTO=ann\n0 1 * * * /usr/bin/backup --all\n0 2 * * * /usr/bin/tidy%yes\n"


@pytest.fixture
def table(here: Path) -> Path:
    """A crontab in the current directory."""
    path = here / "table"
    path.write_text(SMALL)
    return path


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> str:
    """The zone of this machine, as far as import can tell."""
    monkeypatch.setattr("cronq.definitions.crontab_import.machine_zone_name", lambda: "Asia/Tokyo")
    return "Asia/Tokyo"


@pytest.fixture
def every_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has the users of all packages."""
    monkeypatch.setattr("cronq.app.app.has_user", lambda name: True)


@pytest.fixture
def imports(cronq: Cli) -> Callable[..., Any]:
    def call(*words: str, code: int = 0) -> Any:
        said = cronq("crontab", "import", "--json", "--tz", "UTC", *words)
        assert said.code == code, said.err
        return json.loads(said.out)

    return call


def shown(cronq: Cli, name: str) -> Any:
    return json.loads(cronq("show", name, "--json").out)


def test_each_line_is_a_job_that_says_what_it_runs_in_which_shell_and_as_whom(cronq: Cli, table: Path) -> None:
    done = cronq("crontab", "import", "table")

    assert done.code == 0
    assert "table: line 3: the command ends before the %, as under cron: it is '/usr/bin/tidy'" in done.complaint
    created = [line.removeprefix("created ") for line in done.out.splitlines()]
    assert [re.sub("[0-9a-f]{6}$", "", name) for name in created] == ["table-backup-", "table-tidy-"]
    assert f"as {ME}: /bin/sh -c '/usr/bin/backup --all'" in cronq("list").out
    words = cronq("show", created[1]).out
    assert re.search(r"^runs +/bin/sh -c /usr/bin/tidy$", words, re.MULTILINE)
    assert re.search(rf"^as user +{ME}$", words, re.MULTILINE)
    assert re.search(r"^environment +MAILTO=ann$", words, re.MULTILINE)
    assert re.search(r"^reads +'yes\\n'$", words, re.MULTILINE)
    assert re.search(rf"^source +\S+:{table}:3$", words, re.MULTILINE)


def test_the_zone_is_that_of_the_machine_unless_the_crontab_or_the_caller_names_one(
    cronq: Cli, here: Path, zone: str
) -> None:
    (here / "table").write_text("0 1 * * * here\nCRON_TZ=Europe/Berlin\n0 2 * * * there\n")

    def zones(*words: str) -> list[str]:
        assert cronq("crontab", "import", "table", *words).code == 0
        return [each["timezone"] for each in json.loads(cronq("list", "--json").out)]

    assert sorted(zones()) == [zone, "Europe/Berlin"]
    assert sorted(zones("--tz", "UTC")) == ["Europe/Berlin", "UTC"]


def test_a_machine_whose_zone_cannot_be_told_needs_to_be_told(
    cronq: Cli, table: Path, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronq.definitions.crontab_import.machine_zone_name", lambda: None)

    said = cronq("crontab", "import", "table")

    assert said.code == 78
    assert "the time zone of this machine cannot be told from /etc/localtime or /etc/timezone; give" in said.complaint
    assert app.jobs.names() == []
    table.write_text("CRON_TZ=UTC\n" + SMALL)
    assert cronq("crontab", "import", "table").code == 0


def test_a_second_import_changes_nothing_and_says_so(cronq: Cli, table: Path, app: Cronq) -> None:
    cronq("crontab", "import", "table")
    before = {job.spec.name: job.version for job in map(app.jobs.get, app.jobs.names())}

    again = cronq("crontab", "import", str(table))

    assert (again.code, again.out) == (0, "")
    assert again.err.endswith("cronq: 2 jobs are as they were\n")
    assert {job.spec.name: job.version for job in map(app.jobs.get, app.jobs.names())} == before


def test_moving_lines_about_changes_nothing(imports: Callable[..., Any], table: Path) -> None:
    names = imports("table")["created"]
    table.write_text(
        "MAILTO=ann\n# now with a comment\n0 2 * * * /usr/bin/tidy%yes\n\n0 1 * * * /usr/bin/backup --all\n"
    )

    again = imports("table")

    assert sorted(again["same"]) == sorted(names)
    assert (again["created"], again["changed"], again["ghosts"]) == ([], [], [])


def test_a_changed_line_changes_its_job_and_no_tick_from_before_runs(
    imports: Callable[..., Any], table: Path, app: Cronq
) -> None:
    backup, tidy = imports("table")["created"]
    table.write_text(SMALL.replace("0 1 * * *", "* * * * *").replace("tidy", "tidy -v"))
    before_s = app.exact_now_s()

    report = imports("table")

    assert (report["changed"], report["created"], report["same"], report["ghosts"]) == ([backup, tidy], [], [], [])
    job = app.jobs.get(backup)
    assert job.state.mark is not None
    assert job.state.mark >= int(before_s)
    assert job.next_tick is not None
    assert job.next_tick > before_s
    pass_at(app, before_s + 1)
    assert all(run.tick is None or run.tick > before_s for run in app.history(backup, 10))
    assert app.jobs.get(tidy).spec.command == ("/usr/bin/tidy -v",)


def test_a_removed_line_is_a_ghost_that_goes_on_until_it_is_removed(
    cronq: Cli, imports: Callable[..., Any], table: Path, app: Cronq
) -> None:
    backup, tidy = imports("table")["created"]
    assert json.loads(cronq("ghosts", "--json").out) == []
    table.write_text(SMALL.replace("0 2 * * * /usr/bin/tidy%yes\n", ""))

    said = cronq("crontab", "import", "table", "--tz", "UTC")

    assert said.code == 0
    assert said.out == f"ghost {tidy}\n"
    assert "its job goes on: `cronq rm NAME`, or import with --prune" in said.err
    (ghost,) = json.loads(cronq("ghosts", "--json").out)
    assert ghost == {
        "name": tidy, "origin": f"gone from crontab:{table}", "source": f"{app.config.host}:{table}:3"
    }  # fmt: skip
    assert f"gone from crontab:{table}" in cronq("show", tidy).out
    assert app.jobs.get(tidy).next_tick is not None

    assert imports("table")["ghosts"] == [tidy], "and it stays one"
    assert imports("table", "--prune")["removed"] == [tidy]
    assert app.jobs.names() == [backup]
    assert cronq("ghosts").err == "cronq: no ghosts\n"


def test_ghosts_of_modules_are_listed_too(shell: Cli, here: Path, app: Cronq) -> None:
    (here / "jobs.py").write_text(
        "from cronq import job\njob(name='old', command=['true'])\njob(name='new', command=['true'])\n"
    )
    assert shell("sync", "jobs").code == 0
    (here / "jobs.py").write_text("from cronq import job\njob(name='new', command=['true'])\n")

    found = json.loads(shell("ghosts", "jobs", "--json").out)

    assert found == [{"name": "old", "origin": "jobs", "source": "jobs.py:2"}]
    assert app.jobs.names() == ["new", "old"]


def test_a_monitor_learns_of_ghosts_by_the_exit_code(shell: Cli, here: Path) -> None:
    (here / "jobs.py").write_text("from cronq import job\njob(name='old', command=['true'])\n")
    assert shell("sync", "jobs").code == 0
    assert shell("ghosts", "jobs", "--exit-code").code == 0
    (here / "jobs.py").write_text("")

    assert shell("ghosts", "jobs").code == 0
    told = shell("ghosts", "jobs", "--exit-code")
    assert (told.code, told.out.split()[-3:]) == (1, ["old", "jobs", "jobs.py:2"])

    (here / "jobs.py").write_text("import nothing_of_that_name\n")
    assert shell("ghosts", "jobs", "--exit-code").code == 78


def test_a_line_that_comes_back_is_its_job_again(imports: Callable[..., Any], table: Path, cronq: Cli) -> None:
    names = imports("table")["created"]
    table.write_text("")
    assert imports("table")["ghosts"] == sorted(names)
    table.write_text(SMALL)

    assert imports("table")["same"] == names
    assert cronq("ghosts").err == "cronq: no ghosts\n"


def test_what_cannot_be_carried_over_is_told_line_by_line_and_the_rest_is_imported(cronq: Cli, here: Path) -> None:
    (here / "table").write_text("@reboot start it\n0 1 * * * fine\n0 25 * * * bad\n0 0 30 2 * never\n")

    done = cronq("crontab", "import", "table")

    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines()] == ["created"]
    path = here / "table"
    reboot, bad, never = done.err.splitlines()
    assert reboot.startswith(f"cronq: {path}:1: @reboot is not a time; ")
    assert reboot.endswith(": @reboot start it")
    assert bad == f"cronq: {path}:3: hour 25 is outside 0-23: 0 25 * * * bad"
    assert never.startswith(f"cronq: {path}:4: cron: day of month 30 is outside 1-29")


def test_nothing_is_removed_while_a_line_cannot_be_read(imports: Callable[..., Any], table: Path, app: Cronq) -> None:
    imports("table")
    table.write_text(SMALL.replace("0 1 *", "0 91 *"))

    report = imports("table", "--prune", code=1)

    assert report["removed"] == []
    assert len(report["ghosts"]) == 1
    assert report["notes"][1:] == ["nothing is removed while there are lines that cannot be read: mend them first"]
    assert len(app.jobs.names()) == 2

    table.write_text("@reboot x\n" + SMALL.replace("0 1 * * *", "#"))
    assert len(imports("table", "--prune", code=1)["removed"]) == 1, "a line that never can be is no slip"


def test_a_dry_run_says_what_would_happen_and_changes_nothing(
    cronq: Cli, imports: Callable[..., Any], table: Path, app: Cronq
) -> None:
    said = cronq("crontab", "import", "table", "--dry-run")

    assert said.code == 0
    assert said.out.count("created ") == 2
    assert "nothing was changed" in said.err
    assert app.client.dbsize() == 0

    backup, tidy = imports("table")["created"]
    table.write_text(SMALL.replace("--all", "").replace("0 2 * * * /usr/bin/tidy%yes\n", ""))
    report = imports("table", "--dry-run", "--prune")

    assert (report["changed"], report["removed"]) == ([backup], [tidy])
    assert app.jobs.names() == [backup, tidy]
    assert cronq("ghosts").err == "cronq: no ghosts\n"


def test_another_host_makes_no_ghosts_of_the_jobs_of_this_one(
    imports: Callable[..., Any], table: Path, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = imports("table")["created"]
    monkeypatch.setenv("CRONQ_HOST_ID", "other")
    table.write_text("0 3 * * * only here\n")

    report = imports("table", "--prune")

    assert (report["ghosts"], report["removed"]) == ([], [])
    assert set(names) < set(app.jobs.names())


def test_the_options_of_the_import_are_those_of_each_job(imports: Callable[..., Any], table: Path, cronq: Cli) -> None:
    name, _ = imports("table")["created"]
    spec = shown(cronq, name)["spec"]
    assert (spec["timeout"], spec["catchup"], spec["overlap"], spec["queue"]) == (86400, "skip", "skip", "default")

    imports(
        "table", "--timeout", "2h", "--catchup", "latest", "--overlap", "allow", "--queue", "cron", "--user", "nobody"
    )

    listed = json.loads(cronq("list", "--json").out)
    (theirs,) = [each["name"] for each in listed if each["run_as"] == "nobody" and "backup" in each["name"]]
    spec = shown(cronq, theirs)["spec"]
    assert (spec["timeout"], spec["catchup"], spec["overlap"], spec["queue"]) == (7200, "latest", "allow", "cron")


def test_a_bad_option_is_told_of_each_line_and_stores_nothing(cronq: Cli, table: Path, app: Cronq) -> None:
    said = cronq("crontab", "import", "table", "--timeout", "soon")

    assert said.code == 1
    assert said.err.count("timeout: 'soon' is not a duration") == 2
    assert app.jobs.names() == []


def test_a_crontab_can_be_piped_in(
    imports: Callable[..., Any], here: Path, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SMALL.encode())))
    created = imports("-", "--user", "nobody")["created"]

    assert [name.split("-")[:2] for name in created] == [["nobody", "backup"], ["nobody", "tidy"]]
    job = app.jobs.get(created[0])
    assert (job.origin, job.spec.run_as) == ("crontab:~nobody", "nobody")


def test_a_file_that_is_not_there_is_a_wrong_call(cronq: Cli, here: Path) -> None:
    said = cronq("crontab", "import", "no-such-file")

    assert said.code == 2
    assert "no-such-file: No such file or directory" in said.complaint


@pytest.mark.parametrize("content", [b"\x7fELF\x00\x01\x1b[31m\n" * 50, b"* * * * * true\n* * * * * echo a\x00b\n"])
def test_a_file_that_is_no_text_is_a_wrong_call(cronq: Cli, here: Path, app: Cronq, content: bytes) -> None:
    (here / "table").write_bytes(content)

    said = cronq("crontab", "import", "table")

    assert said.code == 2
    assert "table is not a text: it has a NUL byte" in said.complaint
    assert app.jobs.names() == []


def test_a_file_that_never_ends_is_a_wrong_call(cronq: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cronq.cli.crontab._LARGEST", 1000)
    (here / "table").write_text("# nothing\n" * 101)

    said = cronq("crontab", "import", "table")

    assert (said.code, "larger than" in said.complaint) == (2, True)


def test_a_line_that_is_refused_is_quoted_briefly_and_cannot_talk_to_a_terminal(cronq: Cli, here: Path) -> None:
    (here / "table").write_text(f"22-6 * * * * echo \x1b[31m{'x' * 500}\n")

    said = cronq("crontab", "import", "table")

    assert said.code == 1
    assert "22-6 * * * * echo \N{REPLACEMENT CHARACTER}[31mxxx" in said.complaint
    assert len(said.complaint) < 400


def test_a_path_written_otherwise_is_the_same_file(imports: Callable[..., Any], table: Path, here: Path) -> None:
    created = imports("table")["created"]
    (here / "sub").mkdir()

    again = imports("sub/../table")

    assert (again["created"], again["same"], again["ghosts"]) == ([], created, [])


@pytest.mark.parametrize(
    ("words", "why"),
    [(("--user", "no-such-user"), "there is no user 'no-such-user' here"), (("--user", ME, "--system"), "--system")],
)
def test_a_user_that_cannot_be_meant_is_a_wrong_call(
    cronq: Cli, table: Path, app: Cronq, words: tuple[str, ...], why: str
) -> None:
    said = cronq("crontab", "import", "table", *words)

    assert (said.code, why in said.complaint) == (2, True)
    assert app.jobs.names() == []


def test_an_export_that_cannot_be_made_writes_nothing(cronq: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRONQ_REDIS_URL", "redis://127.0.0.1:1/0")

    said = cronq("crontab", "export")

    assert (said.code, said.out) == (69, "")


def test_a_system_crontab_that_is_taken_for_a_users_is_noticed(cronq: Cli, here: Path) -> None:
    (here / "table").write_text("0 1 * * * root /usr/bin/tidy\n0 2 * * * nobody true\n")

    assert "has it a user column? Then give --system" in cronq("crontab", "import", "table", "--dry-run").err
    assert "user column" not in cronq("crontab", "import", "table", "--system").err


def test_a_user_that_this_machine_does_not_have_is_told(cronq: Cli, here: Path, app: Cronq) -> None:
    (here / "table").write_text("0 1 * * * no-such-user /usr/bin/tidy\n0 2 * * * root true\n")

    said = cronq("crontab", "import", "table", "--system")

    assert said.code == 1
    assert f"{here / 'table'}:1: there is no user 'no-such-user' here" in said.err
    assert len(app.jobs.names()) == 1


def test_a_file_without_a_command_says_so(cronq: Cli, here: Path) -> None:
    (here / "table").write_text("# nothing\n")

    said = cronq("crontab", "import", "table")

    assert (said.code, said.complaint) == (0, f"cronq: {here / 'table'} has no line that starts a command")


@pytest.mark.parametrize("package", sorted(path.name for path in (DATA / "cron.d").iterdir()))
def test_crontabs_of_debian_packages_mean_the_same_in_list_and_show(
    imports: Callable[..., Any], cronq: Cli, app: Cronq, every_user: None, package: str
) -> None:
    path = DATA / "cron.d" / package
    lines = [line for line in path.read_text().splitlines() if re.match(r"[\d*]", line)]
    variables = dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))
    variables.pop("SHELL", None)

    created = imports("--system", str(path))["created"]

    listed = {each["name"]: each for each in json.loads(cronq("list", "--json").out)}
    assert len(created) == len(lines) == len(listed)
    begin = datetime.fromtimestamp(app.exact_now_s(), UTC)
    for name, line in zip(created, lines, strict=True):
        *fields, user, command = line.split(maxsplit=6)
        spec = shown(cronq, name)["spec"]
        assert (listed[name]["schedule"], listed[name]["timezone"]) == (" ".join(fields), "UTC")
        assert (listed[name]["run_as"], spec["run_as"]) == (user, user)
        assert listed[name]["runs"].startswith("/bin/sh -c ")
        assert (spec["command"], spec["shell"]) == ([command.replace("\\%", "%")], True)
        assert (spec["env"], spec["stdin"], spec["cwd"], spec["dst"]) == (variables, None, None, "debian")
        ticks = [each["tick"] for each in json.loads(cronq("next", name, "-n", "100", "--json").out)]
        wanted = starts(" ".join(fields), "UTC", begin, 101)
        assert set(ticks) <= {datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in wanted}
        assert len(ticks) == 100


def test_a_users_crontab_with_every_construct_is_imported_and_the_second_time_the_same(
    here: Path, imports: Callable[..., Any], cronq: Cli
) -> None:
    path = str(DATA / "crontab-of-a-user")
    first = imports(path, code=1)
    second = imports(path, code=1)

    assert len(first["created"]) == 29
    assert second["same"] == first["created"]
    assert (second["created"], second["changed"], second["ghosts"]) == ([], [], [])
    refused = {each["line"] for each in first["refused"]}
    assert refused == {9, 49, 50, 51, *range(52, 63)}
    listed = json.loads(cronq("list", "--json").out)
    assert {each["timezone"] for each in listed} == {"UTC", "Europe/Berlin"}


def test_export_gives_back_what_import_took(imports: Callable[..., Any], cronq: Cli, here: Path, table: Path) -> None:
    names = imports("table")["created"]

    said = cronq("crontab", "export")

    assert said.code == 0
    assert [line for line in said.out.splitlines() if not line.startswith("#")] == [
        "CRON_TZ=UTC", "SHELL=/bin/sh", "MAILTO=ann", "0 1 * * * /usr/bin/backup --all", "0 2 * * * /usr/bin/tidy%yes",
    ]  # fmt: skip
    assert all(f"# {name}; cron has no timeout=1d, overlap=skip" in said.out for name in names)
    table.write_text(said.out)
    assert imports("table")["same"] == names
    assert f"0 2 * * * {ME} /usr/bin/tidy%yes" in cronq("crontab", "export", "--system", names[1]).out


def test_export_says_what_it_cannot_write(cronq: Cli, app: Cronq) -> None:
    app.add("often", command=["true"], every="5m")

    assert "# often cannot be written here: every 5m is not cron" in cronq("crontab", "export").out
    unknown = cronq("crontab", "export", "oftn")
    assert (unknown.code, "did you mean 'often'" in unknown.complaint) == (2, True)


def test_add_takes_the_surroundings_of_a_command_and_show_tells_them(cronq: Cli, here: Path) -> None:
    words = ["--env", "A=b c", "--env", "B=x=y", "--cwd", "/tmp", "--run-as", "nobody", "--stdin", "hi"]

    assert cronq("add", "tidy", "--every", "1h", *words, "--", "cat").code == 0

    spec = shown(cronq, "tidy")["spec"]
    assert (spec["env"], spec["cwd"], spec["run_as"], spec["stdin"]) == (
        {"A": "b c", "B": "x=y"},
        "/tmp",
        "nobody",
        "hi",
    )
    told = cronq("show", "tidy").out
    for label, value in [("as user", "nobody"), ("in", "/tmp"), ("environment", "A='b c' B=x=y"), ("reads", "'hi'")]:
        assert re.search(rf"^{label} +{re.escape(value)}$", told, re.MULTILINE), label
    bad = cronq("add", "bad", "--env", "A", "--", "true")
    assert (bad.code, "'A' has no value; write --env NAME=VALUE" in bad.complaint) == (2, True)
