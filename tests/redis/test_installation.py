"""One Redis database serves one installation: a second prefix is refused while the first is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.db.keys import RQ_CRONQ_PREFIX
from cronq.errors import RedisUnfit
from cronq.hosts.heartbeats import Heart
from cronq.jobs.registry import Registry


def beside(app: Cronq, prefix: str) -> Cronq:
    """The application of another installation in the same database."""
    return Cronq(config=replace(app.config, prefix=prefix), registry=Registry(), client=app.client)


def serves(redis: Redis) -> str:
    """The prefix of the installation that has the database."""
    return (redis.get(RQ_CRONQ_PREFIX) or b"").decode().partition(" ")[0]


def long_ago(redis: Redis) -> None:
    """Let the last start of the first installation be a minute ago."""
    redis.set(RQ_CRONQ_PREFIX, f"cronq {redis.time()[0] - 60}")


def test_the_first_installation_has_the_database_and_stays(app: Cronq, redis: Redis) -> None:
    first, again = app.require_fit_redis(), app.require_fit_redis()

    assert first == again
    assert serves(redis) == "cronq"
    assert redis.ttl(RQ_CRONQ_PREFIX) == -1


def test_a_second_one_is_refused_while_the_first_has_jobs(app: Cronq, redis: Redis) -> None:
    app.require_fit_redis()
    app.add("nightly", command=["true"])
    long_ago(redis)

    with pytest.raises(RedisUnfit, match=r"prefix 'staging': this Redis .* prefix 'cronq' .1 jobs, .*database number"):
        beside(app, "staging").require_fit_redis()

    assert serves(redis) == "cronq"
    assert redis.keys("staging:*") == []


@pytest.mark.parametrize("kind", ["beats", "workers"])
def test_a_second_one_is_refused_while_a_process_of_the_first_lives(app: Cronq, redis: Redis, kind: str) -> None:
    app.require_fit_redis()
    Heart(app.heartbeats, kind, "box.7", "box", dict).beat(app.exact_now_s())
    long_ago(redis)

    with pytest.raises(RedisUnfit, match="0 jobs, 1 beats and workers"):
        beside(app, "staging").require_fit_redis()


def test_a_second_one_takes_over_what_the_first_has_left_and_says_so(app: Cronq, redis: Redis) -> None:
    app.require_fit_redis()
    Heart(app.heartbeats, "beats", "box.7", "box", dict).beat(app.exact_now_s() - 60)
    long_ago(redis)

    warnings = beside(app, "staging").require_fit_redis()

    assert "prefix 'cronq' before, of which nothing is left; it serves 'staging'" in warnings[-1]
    assert serves(redis) == "staging"
    assert len(beside(app, "staging").require_fit_redis()) == len(warnings) - 1


def test_a_person_gives_the_first_up_by_deleting_the_key(app: Cronq, redis: Redis) -> None:
    app.require_fit_redis()
    app.add("nightly", command=["true"])

    redis.delete(RQ_CRONQ_PREFIX)
    beside(app, "staging").require_fit_redis()

    assert serves(redis) == "staging"


def test_a_second_one_that_begins_before_the_first_has_stored_its_jobs_is_refused(app: Cronq, redis: Redis) -> None:
    app.require_fit_redis()

    with pytest.raises(RedisUnfit, match=r"0 jobs, 0 beats and workers, last start \ds ago"):
        beside(app, "staging").require_fit_redis()

    assert serves(redis) == "cronq"
