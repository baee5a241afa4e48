"""The promise as a whole: whatever befalls beats, people, calendars and clocks, the ledger says of each tick once what
the rules say of it, and what runs was pushed once.

Each world is made from a number. `CRONQ_LONG_TESTS=1` tries many, from `CRONQ_TEST_SEED` on or from a number of its
own. A failure tells the number, and the smallest world that still shows it.
"""

from __future__ import annotations

import os
import random
import traceback

import pytest
from redis import Redis

from cronq.db import scripts
from tests.redis.ledger_plans import Maker, Plan, smallest
from tests.redis.ledger_world import World

LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
FIRST = int(os.environ.get("CRONQ_TEST_SEED", random.randrange(10**9) if LONG else 0))
#: So many parts, for several processes, of so many worlds.
PARTS, WORLDS = 4, int(os.environ.get("CRONQ_WORLDS", "5000" if LONG else "40"))


def wrong_in(redis: Redis, plan: Plan) -> str:
    """What the ledger of this world has wrong; "" when nothing is."""
    redis.flushall()
    for name in scripts.names():
        redis.script_load(scripts.source(name))
    try:
        world = World(redis, plan.where.span, plan.begin, plan.batch, plan.rate, plan.leave_after)
        for name, rules, parents in zip("abc", plan.jobs, plan.parents, strict=False):
            world.add(name, rules, parents)
        world.do(plan.acts)
        world.close()
    except Exception:
        return traceback.format_exc()
    return ""


@pytest.mark.timeout(0 if LONG else 180)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_ledger_says_of_every_tick_once_what_the_rules_say(redis: Redis, part: int) -> None:
    for seed in range(FIRST + part * WORLDS, FIRST + (part + 1) * WORLDS):
        plan = Maker(seed).plan()
        if wrong_in(redis, plan):
            plan = smallest(plan, lambda each: bool(wrong_in(redis, each)))
            pytest.fail(f"CRONQ_TEST_SEED={seed}:\n{plan}\n{wrong_in(redis, plan)}", pytrace=False)
