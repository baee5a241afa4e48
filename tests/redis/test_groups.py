"""Groups of hosts: what is stored, who is in one, and what the checks make of them."""

from __future__ import annotations

import json
import random

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.db.scripts import source
from cronq.errors import CronqError, DefinitionError, KeyBroken, UnknownGroup
from cronq.hosts.groups import hosts_of
from cronq.hosts.heartbeats import Heart
from cronq.jobs.registry import Registry


@pytest.fixture
def app(redis: Redis) -> Cronq:
    return Cronq(config=Config(host_id="box"), registry=Registry(), client=redis)


def test_a_group_is_its_hosts_and_those_of_groups_in_it(app: Cronq) -> None:
    app.set_group("web", ["web1.example", "web2.example"])
    app.set_group("all", ["web", "db1.example", "web1.example"])

    assert app.hosts_of_group("all") == ["db1.example", "web1.example", "web2.example"]
    assert app.read_groups() == {
        "all": ("web", "db1.example", "web1.example"), "web": ("web1.example", "web2.example"),
    }  # fmt: skip


def test_groups_that_are_in_each_other_add_nothing(app: Cronq) -> None:
    app.set_group("a", ["abc", "def", "b", "a"])
    app.set_group("b", ["a"])

    assert app.hosts_of_group("a") == app.hosts_of_group("b") == ["abc", "def"]


def test_a_name_that_is_both_is_the_group(app: Cronq) -> None:
    app.set_group("box", ["other"])
    app.set_group("g", ["box"])

    assert app.hosts_of_group("g") == ["other"]


def test_an_empty_group_has_no_hosts_and_one_that_is_not_there_is_an_error(app: Cronq) -> None:
    app.set_group("off", [])

    assert app.hosts_of_group("off") == []
    with pytest.raises(UnknownGroup, match="there is no group 'of'"):
        app.hosts_of_group("of")


@pytest.mark.parametrize("bad", ["", "a b", "a:b", "a\nb", "x" * 254, "a/b", "é"])
def test_odd_names_change_nothing(app: Cronq, redis: Redis, bad: str) -> None:
    for name, entries in ((bad, ["box"]), ("g", ["box", bad])):
        with pytest.raises(DefinitionError, match="group"):
            app.set_group(name, entries)
    assert redis.keys() == []


def test_setting_says_whether_something_changed_and_who_did_it(app: Cronq, redis: Redis) -> None:
    assert app.set_group("g", ["a", "b"])
    assert not app.set_group("g", ["a", "b", "b"])
    assert app.set_group("g", ["a"])
    assert app.remove_groups(["g", "never"]) == ["g"]

    told = [(e[b"type"], e[b"group"], e[b"by"]) for _, e in redis.xrange("cronq:events")]
    by = app.who.encode()
    assert told == [(b"group_set", b"g", by), (b"group_set", b"g", by), (b"group_removed", b"g", by)]


def test_an_import_takes_the_place_of_all_groups_or_changes_nothing(app: Cronq) -> None:
    app.set_group("old", ["a"])
    app.set_group("same", ["b"])
    good = {"groups": {"same": ["b"], "new": "c", "nested": ["new", "same"], "off": []}}

    assert app.import_groups(json.dumps(good).encode()) == ["nested", "new", "off", "old"]

    known = app.read_groups()
    assert known == {"same": ("b",), "new": ("c",), "nested": ("new", "same"), "off": ()}
    for bad in (b"{", b"[]", b'{"groups": []}', b'{"groups": {"x": 3}}', b'{"groups": {"x": ["a", "b c"]}}', b"\xff"):
        with pytest.raises(CronqError):
            app.import_groups(bad)
    assert app.read_groups() == known


def test_a_key_of_a_wrong_type_is_named(app: Cronq, redis: Redis) -> None:
    redis.set("cronq:groups", "x")

    with pytest.raises(KeyBroken, match="cronq:groups"):
        app.set_group("g", ["a"])


def test_scripts_find_the_same_hosts_in_groups_made_by_chance(app: Cronq, redis: Redis) -> None:
    chance = random.Random(1)
    asked = source("parts/groups") + "return cjson.encode({is_in_group('cronq', ARGV[1], ARGV[2])})"
    for _ in range(100):
        names, hosts = [f"g{number}" for number in range(5)], [f"h{number}" for number in range(4)]
        groups = {name: tuple(chance.choices([*names, *hosts], k=chance.randrange(4))) for name in names[:4]}
        app.groups.set(groups, by="ann", replace_all=True)
        for name in names:
            for host in (*hosts, "g4"):
                expected = [host in hosts_of(groups, name)] if name in groups else []
                found = json.loads(redis.eval(asked, 0, name, host))  # type: ignore[arg-type]
                assert (found or []) == expected, (groups, name, host)


def test_the_check_of_groups_names_those_that_are_not_there(app: Cronq) -> None:
    app.set_group("mail", ["a"])
    tab = b"""
# * * * * * cronq exec --group commented -- x
*/5 * * * * cronq exec --name x --group mail -- /opt/x --group of-the-command
0 4 * * * root cronq --url redis://r exec --group=typo -- y
0 5 * * * echo cronq
"""

    found = app.check_groups([("tab", tab)])

    assert found.line == (
        "CRONQ CRITICAL - there is no group 'typo' (tab:4); `cronq group set` stores one | 'groups'=1 'unknown'=1;;0"
    )
    app.set_group("typo", [])
    assert app.check_groups([("tab", tab)]).state == 0


def test_the_check_of_hosts_names_groups_without_one_that_is_alive(app: Cronq) -> None:
    app.set_group("off", [])
    app.set_group("here", ["box", "other"])
    app.set_group("there", ["far", "away"])
    Heart(app.heartbeats, "workers", "box.1", "box", dict).beat(app.now_s())

    found = app.check_hosts()

    assert (found.state, found.text) == (2, "no beat or worker was heard of on any host of the group there")
    Heart(app.heartbeats, "beats", "away.1", "away", dict).beat(app.now_s())
    assert app.check_hosts().state == 0
