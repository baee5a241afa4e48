"""`run_as`: the command runs as that user or not at all, and nothing of it outlives its guardian.

Changing the user makes the kernel forget the parent-death signal, so all that `test_watchdog.py` proves is at stake
again here. Only root can become somebody else.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cronq.clock import boot_s
from cronq.jobs.spec import make_spec
from cronq.process.watchdog import Watchdog
from cronq.run_context import CurrentRun
from cronq.worker.child import child_main, order_for, read_result
from cronq.worker.outcome import judge
from tests.system.test_watchdog import ended, is_running, until, until_gone

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

ROOT = Path(__file__).parents[2]
RUN = CurrentRun("as-nobody", "as-nobody-m00000000", None, 1, "box", None, None)
#: A shell that ignores TERM, with a plain child, one in a session of its own, and a daemon.
FAMILY = """
trap '' TERM
sleep 1000 & plain=$!
setsid sleep 1000 & session=$!
(setsid sh -c 'echo $$ > daemon; exec sleep 1000' &)
until [ -s daemon ]; do sleep 0.01; done
echo "{\\"child\\": $$, \\"plain\\": $plain, \\"session\\": $session, \\"daemon\\": $(cat daemon)}" > part
mv part family
wait
"""
GUARDIAN = """
import json, sys
from cronq.worker.child import child_main
from cronq.process.watchdog import Watchdog
watchdog = Watchdog(child_main)
watchdog.start()
child = watchdog.spawn(json.loads(sys.argv[1]))
print(watchdog.pid, flush=True)
child.wait(None)
"""


def order(command: str, **options: Any) -> dict[str, Any]:
    options.setdefault("run_as", "nobody")
    return order_for(make_spec("as-nobody", command=command, shell=True, **options), RUN, "[[],{}]")


@pytest.fixture
def commons() -> Iterator[Path]:
    """A directory that anybody may enter and write to."""
    with tempfile.TemporaryDirectory(prefix="cronq-commons-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def guardian(commons: Path) -> Iterator[Callable[[], tuple[int, int, dict[str, int]]]]:
    """Starts a guardian with a family of nobody's; the pids of guardian, watchdog and family."""
    started: list[subprocess.Popen[str]] = []
    seen: dict[str, int] = {}

    def start() -> tuple[int, int, dict[str, int]]:
        words = [sys.executable, "-c", GUARDIAN, json.dumps(order(FAMILY, cwd=str(commons)))]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        watchdog = int(process.stdout.readline())
        until((commons / "family").exists)
        seen.update(json.loads((commons / "family").read_text()))
        return process.pid, watchdog, dict(seen)

    yield start
    for process in started:
        for pid in (process.pid, *seen.values()):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def ids_of(pid: int) -> dict[str, set[int]]:
    words = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: set(map(int, words[name].split())) for name in ("Uid", "Gid", "Groups")}


def settled(told: Mapping[str, Any]) -> tuple[str, str]:
    """Outcome and reason of a run with this order, in a child of this process."""
    watchdog = Watchdog(child_main)
    watchdog.start()
    try:
        child = watchdog.spawn(told)
        settlement = judge(ended(child), read_result(child.result), fence=None, told=None, at_deadline="")
        return settlement.outcome, settlement.reason
    finally:
        watchdog.close()


def test_all_of_it_is_that_user_with_all_its_ids_and_groups(guardian: Callable[[], Any]) -> None:
    _, watchdog, family = guardian()
    nobody = pwd.getpwnam("nobody")

    for pid in family.values():
        ids = ids_of(pid)
        assert ids["Uid"] == {nobody.pw_uid}
        assert ids["Gid"] == {nobody.pw_gid}
        assert ids["Groups"] == set(os.getgrouplist("nobody", nobody.pw_gid))
    assert ids_of(watchdog)["Uid"] == {0}


@pytest.mark.timing
def test_when_the_guardian_is_killed_all_are_gone_within_a_second(guardian: Callable[[], Any]) -> None:
    pid, watchdog, family = guardian()

    os.kill(pid, signal.SIGKILL)

    until_gone({**family, "watchdog": watchdog})


@pytest.mark.timing
def test_when_the_watchdog_is_killed_the_kernel_ends_the_child_although_it_changed_its_user(
    guardian: Callable[[], Any],
) -> None:
    pid, watchdog, family = guardian()
    os.kill(pid, signal.SIGSTOP)  # else it would do it
    try:
        os.kill(watchdog, signal.SIGKILL)

        until_gone({"child": family["child"]})
    finally:
        os.kill(pid, signal.SIGCONT)
    until_gone(family)


def test_it_can_be_ended_with_all_it_has_started(commons: Path) -> None:
    watchdog = Watchdog(child_main)
    watchdog.start()
    try:
        child = watchdog.spawn(order(FAMILY, cwd=str(commons)))
        until((commons / "family").exists)
        family = json.loads((commons / "family").read_text())
        child.signal(signal.SIGTERM)  # which it ignores
        child.kill_all()

        exit_ = ended(child)

        assert (exit_.ended_by, exit_.survivors) == ("guardian", ())
        assert exit_.leftovers >= 3
        assert not any(map(is_running, family.values()))
    finally:
        watchdog.close()


def test_a_deadline_ends_it_too(commons: Path) -> None:
    watchdog = Watchdog(child_main)
    watchdog.start()
    try:
        child = watchdog.spawn(order(FAMILY, cwd=str(commons)), deadline_boot_s=boot_s() + 1.0)

        assert ended(child).ended_by == "deadline"
    finally:
        watchdog.close()


def test_its_environment_directory_and_input_are_those_of_cron_and_not_those_of_the_worker(
    commons: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_REDIS_URL", "redis://:secret@box/0")
    command = f"env > {commons}/env; pwd > {commons}/pwd; cat > {commons}/stdin"

    assert settled(order(command, env={"PATH": "/bin:/usr/bin", "X": "a b"}, stdin="one\ntwo\n"))[0] == "succeeded"

    seen = dict(line.split("=", 1) for line in (commons / "env").read_text().splitlines())
    ours = {name: value for name, value in seen.items() if name not in ("PWD", "SHLVL", "_", "OLDPWD")}
    home = pwd.getpwnam("nobody").pw_dir
    assert ours == RUN.environment() | {
        "HOME": home, "LOGNAME": "nobody", "USER": "nobody", "SHELL": "/bin/sh", "PATH": "/bin:/usr/bin", "X": "a b",
    }  # fmt: skip
    assert (commons / "pwd").read_text() == (f"{home}\n" if os.path.isdir(home) else "/\n")
    assert (commons / "stdin").read_text() == "one\ntwo\n"


def test_a_user_that_this_host_does_not_have_is_refused(commons: Path) -> None:
    outcome, reason = settled(order(f"touch {commons}/ran", run_as="no-such-user"))

    assert outcome == "failed"
    assert "'no-such-user'" in reason
    assert "this host has no such user" in reason
    assert "the worker is root" in reason
    assert not (commons / "ran").exists()


def test_a_directory_that_the_user_may_not_enter_is_refused(commons: Path, tmp_path: Path) -> None:
    private = commons / "private"
    private.mkdir(mode=0o700)

    outcome, reason = settled(order(f"touch {commons}/ran", cwd=str(private)))

    assert (outcome, f"{private} cannot be entered by nobody on this host: Permission denied" in reason) == (
        "failed",
        True,
    )
    assert not (commons / "ran").exists()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv of util-linux")
@pytest.mark.parametrize(
    ("right", "reason"),
    [
        ("kill", "being root without CAP_KILL, could not end it"),
        ("setuid", "being root, could not become that user (Operation not permitted)"),
        ("setgid", "being root, could not become that user (Operation not permitted)"),
    ],
)
def test_a_root_that_lacks_a_right_for_it_refuses(commons: Path, right: str, reason: str) -> None:
    script = (
        "import io, json, sys; from cronq.worker.child import child_main; result = io.BytesIO();"
        "print(child_main(json.loads(sys.argv[1]), result), result.getvalue().decode())"
    )
    told = json.dumps(order(f"touch {commons}/ran"))

    done = subprocess.run(
        ["setpriv", "--bounding-set", f"-{right}", sys.executable, "-c", script, told],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    if done.stderr.startswith("setpriv:"):
        pytest.skip(f"rights cannot be dropped here: {done.stderr}")
    assert done.stdout.startswith("126 "), done.stderr
    assert reason in done.stdout
    assert not (commons / "ran").exists()


@pytest.mark.parametrize("wanted", ["root", "daemon"])
def test_a_worker_that_is_not_root_runs_only_as_itself(commons: Path, wanted: str) -> None:
    told = {run_as: order(f"touch {commons}/{run_as}", run_as=run_as) for run_as in (wanted, "nobody")}
    results = {run_as: tempfile.TemporaryFile() for run_as in told}  # noqa: SIM115

    for run_as, result in results.items():
        if (pid := os.fork()) == 0:
            try:
                nobody = pwd.getpwnam("nobody")
                os.setgroups([])
                os.setgid(nobody.pw_gid)
                os.setuid(nobody.pw_uid)
                os._exit(child_main(told[run_as], result))
            finally:
                os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        left = read_result(result)
        result.close()
        if run_as == "nobody":
            assert (code, left) == (0, {})
            assert (commons / "nobody").exists()
        else:
            assert code == 126
            assert left["error"].startswith(f"it is to run as {wanted}, and this worker, being nobody, cannot become")
            assert "start a worker as root" in left["error"]
    assert not (commons / wanted).exists()
