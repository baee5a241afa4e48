"""What a command job becomes: its words, environment and directory, and who may run it as whom."""

from __future__ import annotations

import os
import pwd
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from cronq.app.stock_worker import _execute
from cronq.errors import RunRefused
from cronq.jobs.spec import make_spec
from cronq.run_context import CurrentRun
from cronq.worker.child import child_main, order_for, read_result
from cronq.worker.command import Command, further_words, has_user, order_of, prepare, user_name

NOBODY = pwd.getpwnam("nobody")
RUN = CurrentRun("j", "j-m00000000", None, 1, "box", None, None)


def prepared(command: Any = "true", **options: Any) -> Command:
    options.setdefault("shell", isinstance(command, str))
    return prepare(order_of(make_spec("j", command=command, **options)), RUN.environment())


def become(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_words_are_executed_as_they_are_and_only_shell_brings_a_shell() -> None:
    assert prepared(["echo", "a b", "$X"]).words == ["echo", "a b", "$X"]
    assert prepared("echo $X").words == ["/bin/sh", "-c", "echo $X"]
    assert prepared("echo $X", shell="/bin/bash").words == ["/bin/bash", "-c", "echo $X"]


def further(words: list[str], command: Any, **options: Any) -> list[str]:
    spec = make_spec("j", command=command, shell=isinstance(command, str), **options)
    return prepare(order_of(spec), RUN.environment(), words).words


def test_further_words_of_a_run_stand_after_those_of_the_command() -> None:
    assert further(["a b", "$X", "--force"], ["echo", "on"]) == ["echo", "on", "a b", "$X", "--force"]
    assert further(["a b", "$X"], 'echo on "$@"') == ["/bin/sh", "-c", 'echo on "$@"', "sh", "a b", "$X"]
    assert further([], 'echo on "$@"') == ["/bin/sh", "-c", 'echo on "$@"']


@pytest.mark.parametrize(
    "planted", ["", "7", "[]", '[["a", 7], {}]', '[["a\\u0000"], {}]', '["words", {}]', "[" * 5000]
)
def test_a_run_whose_stored_words_are_damaged_does_not_run_without_them(planted: str) -> None:
    with pytest.raises(RunRefused, match="damaged in Redis; queue it anew"):
        further_words(planted)


def test_without_run_as_the_environment_is_the_workers_with_that_of_the_job_and_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OF_WORKER", "1")
    monkeypatch.setenv("OF_BOTH", "worker")
    command = prepared(env={"OF_BOTH": "job", "CRONQ_JOB": "not to be changed"})

    assert (command.env["OF_WORKER"], command.env["OF_BOTH"], command.env["CRONQ_JOB"]) == ("1", "job", "j")
    assert (command.cwd, command.account) == (None, None)


def test_with_run_as_it_is_that_of_a_login_whoever_the_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_WORKER", "1")
    for uid, account in ((0, NOBODY), (NOBODY.pw_uid, None)):
        become(monkeypatch, uid)
        command = prepared(["true"], run_as="nobody", env={"MAILTO": "ann"})

        assert command.account == account
        assert command.env == RUN.environment() | {
            "HOME": NOBODY.pw_dir, "LOGNAME": "nobody", "USER": "nobody", "SHELL": NOBODY.pw_shell,
            "PATH": "/usr/bin:/bin", "MAILTO": "ann",
        }  # fmt: skip
        assert prepared("true", run_as="nobody").env["SHELL"] == "/bin/sh"


def test_it_starts_in_home_or_where_there_is_none_at_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    become(monkeypatch, 0)

    assert prepared(run_as="nobody", env={"HOME": str(tmp_path)}).cwd == str(tmp_path)
    assert prepared(run_as="nobody", env={"HOME": str(tmp_path / "none")}).cwd == "/"
    assert prepared(run_as="nobody", env={"HOME": str(tmp_path)}, cwd="/srv").cwd == "/srv"


def test_a_worker_that_is_neither_root_nor_that_user_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, NOBODY.pw_uid)

    with pytest.raises(RunRefused) as refused:
        prepared(run_as="root")

    assert str(refused.value) == (
        "it is to run as root, and this worker, being nobody, cannot become another user; start a worker as root"
    )


def test_a_user_that_does_not_exist_is_refused_also_by_root(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)

    with pytest.raises(
        RunRefused, match=r"'no-such-user', and this host has no such user \(the worker is root\); make"
    ):
        prepared(run_as="no-such-user")


@pytest.mark.parametrize("planted", ["", "0", "a\0b", "\ud800", "-"])
def test_a_name_that_nobody_checked_becomes_nobody_else(monkeypatch: pytest.MonkeyPatch, planted: str) -> None:
    become(monkeypatch, 0)

    with pytest.raises(RunRefused, match="has no such user"):
        prepare(order_of(make_spec("j", command=["true"])) | {"run_as": planted}, {})


def test_a_switch_that_the_system_refuses_or_forgets_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0)
    command = prepared(run_as="nobody")
    ids = (os.getuid(), os.getgid())
    monkeypatch.setattr("cronq.worker.command.may_kill_others", lambda: True)
    monkeypatch.setattr(os, "initgroups", lambda name, gid: None)
    monkeypatch.setattr(os, "setgid", lambda gid: None)
    monkeypatch.setattr(os, "setuid", lambda uid: None)
    if ids == (NOBODY.pw_uid, NOBODY.pw_gid):
        pytest.skip("this is nobody")

    with pytest.raises(RunRefused, match=r"could not become that user \(the system did not change it\)"):
        command.become()

    monkeypatch.setattr("cronq.worker.command.may_kill_others", lambda: False)
    with pytest.raises(RunRefused, match="being root without CAP_KILL, could not end it; give it that right, or start"):
        command.become()
    monkeypatch.setattr("cronq.worker.command.may_kill_others", lambda: True)

    def no(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "initgroups", no)
    with pytest.raises(RunRefused, match=r"\(Operation not permitted\); give it the right to"):
        command.become()


def test_a_directory_that_is_not_there_is_told_as_the_reason(tmp_path: Path) -> None:
    order = order_for(make_spec("j", command=["touch", "ran"], cwd=str(tmp_path / "none")), RUN, "[[],{}]")
    with (tmp_path / "result").open("w+b") as result:
        assert copy_context().run(child_main, order, result) == 126  # it would make the run that of this process
        told = read_result(result)["error"]

    assert told == (
        f"its directory {tmp_path / 'none'} cannot be entered on this host: "
        "No such file or directory; make it, or change cwd"
    )


def test_a_stock_rq_worker_gives_surroundings_too_but_changes_no_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"shell": True, "cwd": str(tmp_path), "env": {"A": "b"}, "stdin": "in\n"}
    _execute(make_spec("j", command="echo $A > env; cat > stdin", **options), RUN)

    assert ((tmp_path / "env").read_text(), (tmp_path / "stdin").read_text()) == ("b\n", "in\n")
    become(monkeypatch, 0)
    with pytest.raises(
        RunRefused, match="is to run as nobody and a stock rq worker changes no user; serve its queue with"
    ):
        _execute(make_spec("j", command="touch ran", run_as="nobody", **options), RUN)
    assert not (tmp_path / "ran").exists()


def test_users_are_known_by_name_and_shown_by_name() -> None:
    assert has_user("nobody")
    assert not has_user("no-such-user")
    assert not has_user("a\0b")
    assert user_name(NOBODY.pw_uid) == "nobody"
    assert user_name(4_000_000_000) == "uid 4000000000"
