"""URLs that name sentinels and a service."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError
from redis.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

from cronq.config import Config
from cronq.db.client import open_client, own_client
from cronq.errors import ConfigError
from cronq.sentinel_url import parse_sentinel_url


def test_hosts_service_database_and_login_come_from_the_url() -> None:
    parsed = parse_sentinel_url("redis+sentinel://ann:pa%40ss@a.example:26380,[::1],c.example/my-service/3")

    assert parsed.sentinels == (("a.example", 26380), ("::1", 26379), ("c.example", 26379))
    assert parsed.service == "my-service"
    client = open_client("redis+sentinel://ann:pa%40ss@a.example/my-service/3?health_check_interval=7")
    settings = client.connection_pool.connection_kwargs
    assert (settings["username"], settings["password"], settings["db"]) == ("ann", "pa@ss", 3)
    assert settings["health_check_interval"] == 7


def test_the_sentinels_have_a_login_of_their_own_and_are_asked_in_a_hurry() -> None:
    client = open_client("redis+sentinel://:ours@a,b/house?sentinel_username=watch&sentinel_password=th%26eirs")

    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "house"
    assert pool.connection_kwargs["password"] == "ours"
    for each in pool.sentinel_manager.sentinels:
        asked = each.connection_pool.make_connection()
        assert (asked.username, asked.password) == ("watch", "th&eirs")
        assert asked.socket_timeout == asked.socket_connect_timeout == 1
        assert asked.retry.get_retries() == 0


def test_tls_is_spoken_to_servers_and_sentinels_with_the_same_certificates() -> None:
    client = open_client("rediss+sentinel://a/house?ssl_ca_certs=/ca.pem")

    pool = own_client(client, 1.0).connection_pool
    assert pool.connection_class is SentinelManagedSSLConnection
    assert pool.make_connection().ca_certs == "/ca.pem"
    assert pool.sentinel_manager.sentinels[0].connection_pool.make_connection().ca_certs == "/ca.pem"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://:s3cret@a:26379", "names no service"),
        ("redis+sentinel://:s3cret@a/", "names no service"),
        ("redis+sentinel://:s3cret@/house", "is no sentinel"),
        ("redis+sentinel://:s3cret@a:99999/house", "'a:99999' is no sentinel"),
        ("redis+sentinel://:s3cret@a,,b/house", "'' is no sentinel"),
        ("redis+sentinel://:s3cret@a/house/x", "database 'x' is no number"),
        ("redis+sentinel://:s3/cret@a/house/0", "written %2F"),
        ("redis+sentinel://a/house/0/1?sentinel_password=s3cret", "database '0/1' is no number"),
    ],
)
def test_a_url_that_means_nothing_is_refused_in_one_line_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.load({"CRONQ_REDIS_URL": url})

    assert said in str(refused.value)
    assert "environment CRONQ_REDIS_URL" in str(refused.value)
    assert "s3" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_neither_password_is_shown() -> None:
    url = "redis+sentinel://ann:s3cret@a:26379,b/house/0?sentinel_password=s3cret&db=1"

    assert Config(url=url).shown_url == "redis+sentinel://ann:***@a:26379,b/house/0?sentinel_password=***&db=1"


def test_sentinels_that_do_not_answer_are_told_in_one_line_without_their_passwords() -> None:
    client = open_client("redis+sentinel://:s3cret@127.0.0.1:1,127.0.0.1:2/house?sentinel_password=s3cret")

    for asking in (client, own_client(client, 0.5)):
        with pytest.raises(ConnectionError) as trouble:
            asking.ping()

        said = str(trouble.value)
        assert said.startswith("no sentinel of 127.0.0.1:")
        assert said.endswith("answers and knows a primary of 'house'")
        assert "Redis(" not in said
