"""Who only looks may only look: each reading verb works for a user of Redis who can write nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis

from cronq import Cronq
from cronq.app.app import default_app
from tests.faces.conftest import Answer

#: Calls of the reading verbs, and the exit codes that are no failure: checks find what they look for.
READING: list[tuple[str, tuple[int, ...]]] = [
    ("list", (0,)),
    ("show tidy", (0,)),
    ("next", (0,)),
    ("next tidy", (0,)),
    ("history", (0,)),
    ("why tidy", (0,)),
    ("catchup", (0,)),
    ("catchup tidy", (0,)),
    ("diff today today", (0,)),
    ("calendar list", (0,)),
    ("history tidy", (0,)),
    ("delayed", (0,)),
    ("ghosts orders", (0,)),
    ("plan orders", (0,)),
    ("drain --list", (0,)),
    ("beats", (0,)),
    ("workers", (0,)),
    ("crontab export", (0,)),
    ("check beat", (0, 1, 2)),
    ("check workers", (0, 1, 2)),
    ("check clock", (0, 1, 2)),
    ("config", (0,)),
    ("check-config orders", (0,)),
]


@pytest.fixture
def reader(here: Path, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of such a user, for what is called from now on; there is something of each kind to be read."""
    (here / "orders.py").write_text("from cronq import job\n@job('* * * * *', name='tidy')\ndef tidy(): pass\n")
    app = Cronq(redis_url)
    app.add("tidy", cron="* * * * *", command=["true"])
    app.enqueue("tidy")
    app.enqueue_in(60, "tidy")
    app.stop(app.enqueue("tidy"))
    app.drain("box")
    old = '{"host": "h", "pid": 1, "started_at": 1, "seen_at": 1}'
    for kind in ("cronq:beats", "cronq:workers"):
        redis.hset(kind, mapping={"old": old, "junk": "["})
    redis.execute_command(
        "ACL", "SETUSER", "reader", "reset", "on", ">secret", "~*", "+@read", "+@connection", "+info", "+time",
        "+multi", "+exec",
    )  # fmt: skip
    redis.acl_log_reset()
    monkeypatch.setenv("CRONQ_REDIS_URL", as_user(redis_url, "reader", "secret"))
    default_app.cache_clear()
    yield
    default_app.cache_clear()
    redis.acl_deluser("reader")


def as_user(url: str, user: str, password: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user)}:{quote(password)}@{rest.rpartition('@')[2]}"


@pytest.mark.parametrize(("words", "codes"), READING, ids=[words for words, _ in READING])
def test_a_reading_verb_writes_nothing(
    cronq: Callable[..., Answer], reader: None, redis: Redis, words: str, codes: tuple[int, ...]
) -> None:
    answer = cronq(*words.split())

    denied = [(each["object"], each["reason"]) for each in redis.acl_log() if each["username"] == "reader"]
    assert denied == []
    assert answer.code in codes, answer.err


def test_this_user_may_write_nothing(cronq: Callable[..., Answer], reader: None) -> None:
    """Else the others would prove nothing."""
    assert cronq("pause", "tidy").code != 0
