"""Settings: which place wins, where each came from, and that no password is ever shown."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cronq.config import DEFAULT_URL, PRIVATE_URL_FILE, URL_NAMES, Config, environment, hide_password, person
from cronq.errors import ConfigError

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into the directory that settings are read from."""

    def _write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return _write


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    def _load(environ: dict[str, str] | None = None, **flags: Any) -> Config:
        return Config.load(environ or {}, tmp_path, **flags)

    return _load


Load = Callable[..., Config]


# Which place wins


def test_a_default_zone_that_there_is_not_is_refused(load: Load) -> None:
    with pytest.raises(
        ConfigError, match=r"tz \(from environment CRONQ_TZ\): 'Berlin' is not a time zone; .*Europe/Berlin"
    ):
        load({"CRONQ_TZ": "Berlin"})


def test_without_any_setting_the_defaults_hold(load: Load) -> None:
    config = load()

    assert config == Config()
    assert config.url == DEFAULT_URL
    assert set(config.origins.values()) == {"default"}


def test_a_flag_beats_the_environment_beats_cronq_toml_beats_pyproject_beats_the_default(
    load: Load, write: Write
) -> None:
    seen = [load()]
    write("pyproject.toml", '[tool.cronq]\nprefix = "from-pyproject"\n')
    seen.append(load())
    write("cronq.toml", 'prefix = "from-toml"\n')
    seen.append(load())
    seen.append(load({"CRONQ_PREFIX": "from-environment"}))
    seen.append(load({"CRONQ_PREFIX": "from-environment"}, prefix="from-flag"))

    assert [(config.prefix, config.origin("prefix")) for config in seen] == [
        ("cronq", "default"),
        ("from-pyproject", "pyproject.toml"),
        ("from-toml", "cronq.toml"),
        ("from-environment", "environment CRONQ_PREFIX"),
        ("from-flag", "command line"),
    ]


def test_every_setting_can_come_from_every_place_and_says_from_which(load: Load, write: Write) -> None:
    values: dict[str, tuple[str, Any]] = {
        "url": ("redis://elsewhere:1/2", "redis://elsewhere:1/2"),
        "prefix": ("team", "team"),
        "host_id": ("box-1", "box-1"),
        "jobs": ("a b", ("a", "b")),
        "tz": ("Asia/Tokyo", "Asia/Tokyo"),
        "lock_ttl": ("1m", 60.0),
        "lost_after": ("45s", 45.0),
        "shutdown_grace": ("1m30s", 90.0),
        "max_args": ("5000", 5000),
        "keep_rows_for": ("2d", 2 * 86400.0),
        "keep_events": ("77", 77),
        "batch": ("11", 11),
        "catchup_rate": ("2.5", 2.5),
        "serve_rq_scheduler": ("false", False),
        "rq_scheduler_tz": ("Europe/Berlin", "Europe/Berlin"),
        "revision": ("7f3a2c1", "7f3a2c1"),
        "allow": ("a b.c", ("a", "b.c")),
        "allow_eviction": ("true", True),
        "no_commands": ("true", True),
        "webhook_allow_private": ("true", True),
        "isolation": ("run", "run"),
        "child_runs": ("50", 50),
        "child_life": ("10m", 600.0),
        "child_memory": ("64", 64),
        "publish_rq_cron": ("false", False),
        "log_level": ("debug", "debug"),
    }
    variables = {name: "CRONQ_REDIS_URL" if name == "url" else f"CRONQ_{name.upper()}" for name in values}
    expected = {name: value for name, (_, value) in values.items()}

    by_environment = load({variables[name]: text for name, (text, _) in values.items()})
    by_flag = load(**{name: text for name, (text, _) in values.items()})
    write("cronq.toml", "".join(f"{name} = {text!r}\n" for name, (text, _) in values.items()))
    by_file = load()

    names = {item.name for item in dataclasses.fields(Config)} - {"origins"}
    assert set(values) == names
    for config in (by_environment, by_flag, by_file):
        assert {name: getattr(config, name) for name in names} == expected
    assert dict(by_environment.origins) == {name: f"environment {variable}" for name, variable in variables.items()}
    assert set(by_flag.origins.values()) == {"command line"}
    assert set(by_file.origins.values()) == {"cronq.toml"}


def test_the_names_of_the_url_count_in_their_order(load: Load) -> None:
    assert URL_NAMES == ("CRONQ_REDIS_URL", "RQ_REDIS_URL", "REDIS_URL")
    everywhere = {name: f"redis://{name.lower().replace('_', '-')}" for name in URL_NAMES}

    for name in URL_NAMES:
        config = load(everywhere)

        assert config.url == f"redis://{name.lower().replace('_', '-')}"
        assert config.origin("url") == f"environment {name}"
        del everywhere[name]


def test_an_empty_variable_counts_as_none(load: Load) -> None:
    config = load({"CRONQ_REDIS_URL": "", "REDIS_URL": "redis://b", "CRONQ_BATCH": ""})

    assert config.url == "redis://b"
    assert config.origin("batch") == "default"


def test_a_flag_that_was_not_given_leaves_the_other_places_their_say(load: Load) -> None:
    config = load({"CRONQ_JOBS": "a", "CRONQ_PREFIX": "p"}, jobs=(), prefix=None)

    assert (config.jobs, config.prefix) == (("a",), "p")


def test_a_pyproject_without_a_table_for_cronq_says_nothing(load: Load, write: Write) -> None:
    write("pyproject.toml", '[tool.other]\nprefix = "x"\n')

    assert load() == Config()


def test_a_private_redis_of_this_directory_is_used_only_when_nothing_names_a_url(load: Load, write: Write) -> None:
    write(PRIVATE_URL_FILE, "unix:///tmp/private.sock\n")

    private = load()
    told = load({"REDIS_URL": "redis://told"})

    assert (private.url, private.origin("url")) == ("unix:///tmp/private.sock", ".cronq/url")
    assert (told.url, told.origin("url")) == ("redis://told", "environment REDIS_URL")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may give a file away")
@pytest.mark.parametrize("given", ["url", "."])
def test_what_another_user_says_of_a_private_redis_is_refused(
    given: str, load: Load, write: Write, tmp_path: Path
) -> None:
    write(PRIVATE_URL_FILE, "unix:///tmp/private.sock\n")
    os.chown(tmp_path / ".cronq" / given, 12345, -1)

    with pytest.raises(ConfigError, match=r"is not trusted, because it belongs to user 12345; remove it, or name the "):
        load()
    assert load({"REDIS_URL": "redis://told"}).url == "redis://told", "it is not even looked at"


@pytest.mark.parametrize("given", ["url", "."])
def test_a_private_redis_that_others_may_have_written_is_refused(
    given: str, load: Load, write: Write, tmp_path: Path
) -> None:
    write(PRIVATE_URL_FILE, "unix:///tmp/private.sock\n")
    (tmp_path / ".cronq" / given).chmod(0o777)

    with pytest.raises(ConfigError, match=r"is not trusted, because others may write it; remove it"):
        load()


@pytest.mark.parametrize("link", [".cronq", ".cronq/url"])
def test_links_do_not_lead_to_a_private_redis(link: str, load: Load, write: Write, tmp_path: Path) -> None:
    write("elsewhere/url", "unix:///tmp/private.sock\n")
    (tmp_path / "elsewhere").chmod(0o700)
    if link == ".cronq":
        (tmp_path / link).symlink_to("elsewhere")
    else:
        (tmp_path / ".cronq").mkdir(0o700)
        (tmp_path / link).symlink_to("../elsewhere/url")

    with pytest.raises(ConfigError, match=r"is a link, which is not followed; remove it"):
        load()


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_word_of_a_private_redis_counts_as_none(text: str, load: Load, write: Write) -> None:
    write(PRIVATE_URL_FILE, text)

    assert load().url == DEFAULT_URL


# Forms


@pytest.mark.parametrize("written", ["a b.c", "a,b.c", " a , b.c ", "a\nb.c", ["a", "b.c"], ("a", "b.c")])
def test_job_modules_are_a_list_or_one_text(written: Any, load: Load) -> None:
    assert load(jobs=written).jobs == ("a", "b.c")


def test_job_modules_in_a_file_are_a_list_or_one_text(load: Load, write: Write) -> None:
    write("cronq.toml", 'jobs = ["a", "b.c"]\n')
    listed = load().jobs
    write("cronq.toml", 'jobs = "a b.c"\n')

    assert load().jobs == listed == ("a", "b.c")


@pytest.mark.parametrize(("written", "seconds"), [("90", 90.0), ("90s", 90.0), ("1m30s", 90.0), ("250h", 900_000.0)])
def test_a_duration_may_be_written_in_every_form(written: str, seconds: float, load: Load) -> None:
    assert load({"CRONQ_LOCK_TTL": written}).lock_ttl == seconds


def test_a_duration_in_a_file_may_be_a_number(load: Load, write: Write) -> None:
    write("cronq.toml", "lock_ttl = 90\nlost_after = 4.5\n")

    assert (load().lock_ttl, load().lost_after) == (90.0, 4.5)


@pytest.mark.parametrize(("word", "truth"), [("1", True), ("yes", True), ("ON", True), ("0", False), ("off", False)])
def test_a_yes_or_no_may_be_written_as_people_do(word: str, truth: bool, load: Load) -> None:
    assert load({"CRONQ_ALLOW_EVICTION": word}).allow_eviction is truth


def test_a_file_is_utf_8_whatever_the_locale(load: Load, write: Write) -> None:
    write("cronq.toml", 'host_id = "büro-é"  # ключ\n')

    assert load().host_id == "büro-é"


def test_the_host_is_this_machine_unless_it_is_named() -> None:
    assert Config(host_id="box-1").host == "box-1"
    assert Config().host in (socket.getfqdn(), socket.gethostname())


@pytest.mark.parametrize(("written", "rate"), [("none", 0.0), (" None ", 0.0), ("0", 0.0), ("0.5", 0.5), ("200", 200)])
def test_the_catch_up_rate_is_a_number_or_none(written: str, rate: float, load: Load) -> None:
    assert load({"CRONQ_CATCHUP_RATE": written}).catchup_rate == rate


# What is refused: the message names the setting, the value, the place and what is allowed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("prefix", "a:b", "use 1 to 40 of A-Z a-z 0-9 _ -"),
        ("prefix", "x" * 41, "use 1 to 40 of A-Z a-z 0-9 _ -"),
        ("lock_ttl", "1s", "at least 2s"),
        ("lock_ttl", "soon", "write seconds, '5m'"),
        ("lock_ttl", "-5", "is not a duration"),
        ("lost_after", "0.5s", "at least 1s"),
        ("keep_rows_for", "0s", "at least 1m"),
        ("batch", "0", "from 1 to 1,000,000"),
        ("batch", "2000000", "from 1 to 1,000,000"),
        ("batch", "many", "is not a whole number"),
        ("batch", "1.5", "is not a whole number"),
        ("catchup_rate", "0.001", "runs a second from 0.01 to 10,000, or none"),
        ("catchup_rate", "-1", "runs a second from 0.01 to 10,000, or none"),
        ("catchup_rate", "nan", "runs a second from 0.01 to 10,000, or none"),
        ("catchup_rate", "20/s", "neither a number, as of runs a second, nor none"),
        ("keep_events", "0", "from 1 to 1,000,000"),
        ("allow_eviction", "maybe", "is neither true nor false"),
        ("log_level", "loud", "debug, info, warning or error"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(name: str, value: str, words: str, load: Load, write: Write) -> None:
    with pytest.raises(ConfigError) as by_environment:
        load({f"CRONQ_{name.upper()}": value})
    write("cronq.toml", f"{name} = {value!r}\n")
    with pytest.raises(ConfigError) as by_file:
        load()

    for refused, place in ((by_environment, f"environment CRONQ_{name.upper()}"), (by_file, "cronq.toml")):
        text = str(refused.value)
        assert text.startswith(f"{name} ")
        assert value in text
        assert f"(from {place})" in text
        assert words in text
        assert "\n" not in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("batch = 1.5", "batch 1.5 (from cronq.toml): is not a whole number"),
        ("batch = true", "batch True (from cronq.toml): is not a whole number"),
        ("lock_ttl = true", "lock_ttl True (from cronq.toml): "),
        ("host_id = 5", "host_id 5 (from cronq.toml): is not text"),
        ("url = 5", "url '5' (from cronq.toml): is not text"),
        ("jobs = 5", "jobs 5 (from cronq.toml): is not a list of module names"),
        ("jobs = [1]", "jobs [1] (from cronq.toml): is not a list of module names"),
        ("[jobs]\na = 1", "is not a list of module names"),
        ("prefix", "cronq.toml: "),
        ("colour = 1", "cronq.toml: there is no setting 'colour'; known are allow, allow_eviction, batch"),
        ("origins = {}", "cronq.toml: there is no setting 'origins'"),
        ("lock-ttl = 5", "cronq.toml: there is no setting 'lock-ttl'"),
    ],
)
def test_a_file_with_something_wrong_in_it_is_refused_by_name(line: str, words: str, load: Load, write: Write) -> None:
    write("cronq.toml", f"{line}\n")

    with pytest.raises(ConfigError) as refused:
        load()

    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.cronq]\ncolour = 1\n", "pyproject.toml: there is no setting 'colour'"),
        ("[tool]\ncronq = 5\n", "pyproject.toml: [tool.cronq] is not a table"),
        ("tool = 5\n", "pyproject.toml: [tool.cronq] is not a table"),
        ("[tool.cronq\n", "pyproject.toml: "),
    ],
)
def test_a_pyproject_with_something_wrong_in_it_is_refused_by_name(
    text: str, words: str, load: Load, write: Write
) -> None:
    write("pyproject.toml", text)

    with pytest.raises(ConfigError) as refused:
        load()

    assert words in str(refused.value)


def test_a_file_that_is_not_text_is_refused_by_name(load: Load, tmp_path: Path) -> None:
    (tmp_path / "cronq.toml").write_bytes(b'host_id = "\xff\xfe"\n')

    with pytest.raises(ConfigError, match=r"cronq\.toml: .*; mend the file"):
        load()


@pytest.mark.parametrize("url", ["http://h", "h:6379", "localhost", "redis:/h", "sentinel://h"])
def test_a_url_of_another_kind_is_refused(url: str, load: Load) -> None:
    with pytest.raises(ConfigError, match=r"\(from environment REDIS_URL\): starts with redis://"):
        load({"REDIS_URL": url})


# Passwords

SECRET_URLS = [
    ("redis://user:s3cret@h:6379/0", "redis://user:***@h:6379/0"),
    ("redis://:s3cret@h", "redis://:***@h"),
    ("rediss://:s3cret@h:6379/1?ssl_cert_reqs=none", "rediss://:***@h:6379/1?ssl_cert_reqs=none"),
    ("rediss://h:6379/0?password=s3cret", "rediss://h:6379/0?password=***"),
    ("rediss://h:6379/0?db=1&password=s3cret&ssl_cert_reqs=none", "rediss://h:6379/0?db=1&password=***&ssl_cert_reqs=none"),
    ("unix://:s3cret@/tmp/redis.sock?db=1", "unix://:***@/tmp/redis.sock?db=1"),
    ("unix://user:s3cret@/tmp/redis.sock", "unix://user:***@/tmp/redis.sock"),
    ("unix:///tmp/redis.sock?password=s3cret&db=1", "unix:///tmp/redis.sock?password=***&db=1"),
    ("redis://user:s3cret@h?password=s3cret", "redis://user:***@h?password=***"),
    ("redis://s3cret:s3cret@h", "redis://s3cret:***@h"),
    # Not quoted as they should be: such URLs do not work, and are shown when they fail.
    ("redis://:s3c@s3cret@h", "redis://:***@h"),
    ("redis://:s3c/s3cret@h", "redis://:***@h"),
    ("redis://:s3c?s3cret@h", "redis://:***@h"),
    ("redis://:s3c#s3cret@h", "redis://:***@h"),
    ("redis://:s3c:s3cret@h", "redis://:***@h"),
    ("redis://[::1:s3cret@h", None),
    ("user:s3cret@h:6379", "user:***@h:6379"),
    (":s3cret@h:6379", ":***@h:6379"),
    ("redis:/user:s3cret@h", None),
    ("REDIS://:s3cret@h", "REDIS://:***@h"),
    ("http://:s3cret@h", "http://:***@h"),
    ("redis://h?pass%77ord=s3cret", "redis://h?pass%77ord=***"),
    ("rediss://h?db=1&ssl_password=s3cret&db=2", "rediss://h?db=1&ssl_password=***&db=2"),
    ("redis://s3cret@h:6379/0", "redis://***@h:6379/0"),
    ("redis://pa@s3cret@h", "redis://***@h"),
    ("redis://pa@s:s3cret@h", "redis://***@h"),
    ("s3cret@h", "***@h"),
    ("redis://:s3cret@h\n", None),
    ("redis://:s3c\ns3cret@h", "redis://:***@h"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "shown"), SECRET_URLS)
def test_a_password_is_never_shown(url: str, shown: str | None) -> None:
    hidden = hide_password(url)

    assert "s3cret@" not in hidden
    assert "=s3cret" not in hidden
    assert "***" in hidden
    assert shown is None or hidden == shown
    assert Config(url=url).shown_url == hidden


@pytest.mark.parametrize(
    "url",
    [DEFAULT_URL, "redis://h", "rediss://h:6379/0?db=1", "unix:///tmp/redis.sock?db=1", "h:6379", ""],
)
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert hide_password(url) == url


@pytest.mark.parametrize(
    "url", [url for url, _ in SECRET_URLS if not url.startswith(("redis://", "rediss://", "unix://"))]
)
def test_a_refused_url_does_not_show_its_password_either(url: str, load: Load) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"REDIS_URL": url})

    assert "s3cret@" not in str(refused.value)
    assert "***" in str(refused.value)


# Around settings


def test_who_is_at_the_keyboard_is_named_with_the_host() -> None:
    assert person("box-1").endswith("@box-1")


def test_a_command_gets_a_copy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELF", "7")

    copy = environment()
    copy["SHELF"] = "8"

    assert environment()["SHELF"] == "7"


def test_a_zone_of_rq_scheduler_that_is_none_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"rq_scheduler_tz \(from environment CRONQ_RQ_SCHEDULER_TZ\).*Berlin"):
        load({"CRONQ_RQ_SCHEDULER_TZ": "Berlin"})


def test_without_one_it_is_the_zone_of_this_machine(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")

    assert load().foreign_tz == "America/New_York"
    assert load({"CRONQ_RQ_SCHEDULER_TZ": "Europe/Berlin"}).foreign_tz == "Europe/Berlin"
