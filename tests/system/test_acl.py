"""The rights in Redis that docs/security.md gives to each process are enough for it, and keep the others apart."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError
from rq import Queue

from cronq.cli import main
from cronq.cli.private_redis import _version as version_of
from cronq.cli.private_redis import find_server
from tests.conftest import RedisServer
from tests.system.processes import until
from tests.system.worker_processes import Installation, installation

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
SCRIPTS = Path(__file__).parents[2] / "cronq" / "lua"
SECRET = "s3cret"
Cli = Callable[..., tuple[int, str, str]]
#: RQ asks for CLIENT LIST when a worker registers, cronq probes for Lua by EVAL; both do without.
TOLERATED = {"client|list", "eval"}
READING = [
    ["list"], ["show", "every-second"], ["next"], ["history"], ["history", "every-second"], ["beats"], ["workers"],
    ["delayed"], ["drain", "--list"], ["check", "redis"], ["check", "clock"],
    ["why", "every-second"], ["diff", "today", "today"], ["calendar", "list"],
]  # fmt: skip


def recipe() -> dict[str, str]:
    """The rules of each user, with the lists in place of their names."""
    (block,) = re.findall(r"```acl\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = [line.partition(" ") for line in block.replace("\n  ", " ").splitlines() if line]
    lists = {word: " ".join(rest.split()) for word, _, rest in lines if word != "user"}
    users = [rest.split() for word, _, rest in lines if word == "user"]
    return {name: " ".join(lists.get(rule, rule) for rule in rules) for name, *rules in users}


def rights_for(server: RedisServer) -> None:
    with Redis.from_url(server.url) as client:
        newer = [int(part) for part in client.info("server")["redis_version"].split(".")[:2]] >= [7, 2]
        for name, rules in recipe().items():
            words = [*rules.replace("SECRET", SECRET).split(), *(["+client|setinfo"] if newer else [])]
            client.execute_command("ACL", "SETUSER", name, *words)
        client.execute_command("ACL", "LOG", "RESET")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    program = find_server()
    if version_of(Path(program)) < (7,):
        pytest.skip("rights to read keys only came with Redis 7")
    server = RedisServer(program=program)
    yield server
    server.stop()


@pytest.fixture
def shop(server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    rights_for(server)
    with installation(server.url, tmp_path, CRONQ_LOST_AFTER="2s", CRONQ_ALLOW="foreign_jobs") as made:
        yield made


@pytest.fixture
def cronq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cronq WORDS` within this process: code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, url: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cronq", "--url", url, *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, said.out, said.err

    return call


def url_of(server: RedisServer, user: str) -> str:
    return f"unix://{user}:{SECRET}@{server.socket_path}"


def denied(client: Redis) -> set[tuple[str, str, str]]:
    """User, reason and object of what Redis has refused, without what is known to be asked for in vain."""
    found = client.acl_log(128)
    return {(e["username"], e["reason"], e["object"]) for e in found if e["object"].lower() not in TOLERATED}


def test_the_recipe_knows_every_command_of_the_scripts() -> None:
    used = {
        command.lower()
        for path in SCRIPTS.rglob("*.lua")
        for command in re.findall(r"redis\.p?call\(\s*['\"](\w+)['\"]", path.read_text())
    }

    assert len(used) > 20
    for user in ("beat", "worker", "ops"):
        assert {f"+{command}" for command in used} - set(recipe()[user].split()) == set(), user


def test_the_recipe_gives_each_process_what_it_needs(server: RedisServer, shop: Installation, cronq: Cli) -> None:
    def as_user(user: str) -> dict[str, str]:
        return {"CRONQ_REDIS_URL": url_of(server, user)}

    def operate(*words: str) -> str:
        code, out, err = cronq(*words, url=url_of(server, "ops"))
        assert code == 0, err
        return out.strip()

    operate("add", "every-second", "--every", "1s", "--exclusive", "--", "true")
    beat = shop.start("beat", "working_jobs", **as_user("beat"))
    beat.wait_for_line("START-UP")
    worker = shop.worker(**as_user("worker"))

    def outcome_of(run_id: str) -> str | None:
        return shop.row(run_id).outcome

    def ticks() -> int:
        return sum(run.outcome == "succeeded" for run in shop.app.history("every-second"))

    until(lambda: ticks() >= 2, what=lambda: shop.logs)
    later = operate("run", "every-second", "--in", "1s")
    moved = operate("run", "every-second", "--in", "1h")
    operate("reschedule", moved, "--in", "2h")
    operate("stop", moved)
    failed, sleeping = operate("run", "fail", "--arg", "words=no"), operate("run", "sleep", "--arg", "seconds=60")
    shop.begins(sleeping)
    operate("stop", sleeping)
    queue = Queue(connection=shop.client)
    foreign = queue.enqueue("foreign_jobs.add", 1)
    queue.enqueue_in(timedelta(seconds=1), "foreign_jobs.add", 2)
    for words in (["pause", "every-second"], ["resume", "every-second"], ["drain"], ["resume"],
                  ["pause", "--queue", "nights"], ["resume", "--queue", "nights"], ["rm", "add-low"]):  # fmt: skip
        operate(*words)

    guarded = shop.run("exec", "--name", "every-second", "--wait", "20", "--", "true", **as_user("exec"))
    assert guarded.exit_code() == 0, guarded.log
    assert shop.run("once", "nightly", **as_user("exec")).exit_code() == 0
    until(lambda: outcome_of(later) and outcome_of(failed) and outcome_of(sleeping), what=lambda: shop.logs)
    until(lambda: foreign.get_status(refresh=True) == "finished", what=lambda: shop.logs)
    lost = operate("run", "sleep", "--arg", "seconds=60")
    shop.begins(lost)
    worker.kill9()
    shop.worker(**as_user("worker"))
    shop.client.delete(shop.app.keys.template("every-second"))
    until(lambda: outcome_of(lost) == "lost", what=lambda: shop.logs)

    assert (outcome_of(later), outcome_of(failed), outcome_of(sleeping)) == ("succeeded", "failed", "stopped")
    assert denied(shop.client) == set(), shop.logs


def test_a_reader_reads_everything_and_changes_nothing(server: RedisServer, shop: Installation, cronq: Cli) -> None:
    shop.app.add("every-second", every="1s", command=["true"])
    shop.enqueue("add-low")
    url = url_of(server, "reader")

    for words in READING:
        code, out, err = cronq(*words, url=url)
        assert code in ((0, 1) if words[0] == "check" else (0,)), (words, err)
        assert "ermission" not in out + err, words
    assert denied(shop.client) == set()

    for words in (["run", "every-second"], ["pause", "every-second"], ["add", "x", "--", "true"], ["drain"]):
        code, _, err = cronq(*words, url=url)
        assert code in (1, 78), words
        assert "ermission" in err, words
    assert "x" not in shop.app.jobs.names()
    assert shop.app.holds.read() == []


def test_a_dashboard_that_looks_sees_rq_and_nothing_of_cronq(server: RedisServer, shop: Installation) -> None:
    shop.enqueue("add-low")
    with Redis.from_url(url_of(server, "dash")) as client:
        assert Queue("low", connection=client).count == 1
        with pytest.raises(NoPermissionError):
            client.hgetall(shop.app.keys.holds)
        with pytest.raises(NoPermissionError):
            Queue("low", connection=client).empty()
