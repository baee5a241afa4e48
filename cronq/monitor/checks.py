"""The checks of `cronq check …`, in the form that monitoring systems read; beats and workers ask them at start, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from cronq.clock import SKEW_WARN_S, wall_s
from cronq.config import LEAST_REDIS
from cronq.db.decode import text, time_s
from cronq.db.faults import is_general
from cronq.errors import RedisUnfit
from cronq.hosts.heartbeats import ALIVE_S, Heartbeat
from cronq.monitor.growth import Memory
from cronq.timetext import DAY_S, format_duration

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
#: A warning comes when Redis is full within this time: a week leaves days to do something about it.
_SOON_FULL_S = 7 * DAY_S


@dataclass(frozen=True)
class Finding:
    """One state, one line; `line` follows the Nagios plugin rules."""

    state: int
    text: str
    performance: str = ""

    @property
    def line(self) -> str:
        """`CRONQ STATE - text | perfdata`."""
        tail = f" | {self.performance}" if self.performance else ""
        return f"CRONQ {_WORDS[self.state]} - {self.text}{tail}"


def redis_findings(client: Redis, *, allow_eviction: bool = False) -> list[Finding]:
    """What is wrong with this Redis as a place for schedules. What is CRITICAL would lose or double runs.

    Two round trips; needs only INFO, which managed servers allow where CONFIG is forbidden, and scripts.
    """
    info = {text(key): text(value) for key, value in client.info("everything").items() if not isinstance(value, dict)}
    found = []
    version = tuple(int(part) for part in info.get("redis_version", "0").split(".")[:2])
    if version < LEAST_REDIS:
        found.append(Finding(CRITICAL, f"Redis {info.get('redis_version')} is too old; cronq needs 6.2 or newer"))
    if info.get("cluster_enabled") == "1":
        found.append(Finding(CRITICAL, "this is a Redis Cluster; RQ's keys need a single primary"))
    if info.get("role", "master") != "master":
        found.append(Finding(CRITICAL, "this is a replica; connect to the primary (or through Sentinel)"))
    found += _lua_findings(client)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice = "set maxmemory-policy noeviction, or allow_eviction (CRONQ_ALLOW_EVICTION=1) to go on all the same"
        state = WARNING if allow_eviction else CRITICAL
        found.append(Finding(state, f"maxmemory-policy {policy} lets Redis evict schedules, marks and locks; {advice}"))
    if info.get("aof_enabled") == "0":
        found.append(Finding(WARNING, "appendonly is off: a restart of Redis loses what came after its last snapshot"))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > 0.8 * most:
        found.append(
            Finding(WARNING, f"Redis uses {100 * used // most}% of its maxmemory; at 100% nothing can be queued")
        )
    return found


def _lua_findings(client: Redis) -> list[Finding]:
    """A finding when the server runs no scripts: from Valkey 9.1 on Lua is a module of its own, and may be missing."""
    try:
        client.eval("return 1", 0)
    except NoPermissionError:  # of EVAL alone, perhaps; what cannot be done without it says so where it is tried
        return []
    except ResponseError as error:
        if is_general(error):
            raise
        remedy = "install the server's Lua package (valkey-lua, from Valkey 9.1 on) and load its module"
        return [Finding(CRITICAL, f"this server runs no Lua scripts ({error}); {remedy}")]
    return []


def require_fit(client: Redis, *, allow_eviction: bool) -> list[str]:
    """Warnings about this Redis. Raises RedisUnfit when it would lose or double runs."""
    found = redis_findings(client, allow_eviction=allow_eviction)
    for finding in found:
        if finding.state == CRITICAL:
            raise RedisUnfit(finding.text)
    return [finding.text for finding in found]


def check_redis(client: Redis, memory: Memory, *, allow_eviction: bool = False) -> Finding:
    """`cronq check redis`: what is unfit in it, how full it is, and when it is full at the rate of the last day."""
    found = redis_findings(client, allow_eviction=allow_eviction)
    limit = f";;;0;{memory.most}" if memory.most else ""
    performance = f"'used_memory'={memory.used}B{limit}"
    if memory.daily is not None:
        performance += f" 'growth_a_day'={memory.daily:.0f}B"
    if memory.full_in_s is not None:
        performance += f" 'full_in'={memory.full_in_s:.0f}s;{_SOON_FULL_S}:"
        if memory.full_in_s < _SOON_FULL_S:
            found.append(Finding(WARNING, f"Redis is full in {format_duration(memory.full_in_s)} at this rate"))
    if not found:
        return Finding(OK, f"Redis is fit: version, role, eviction and persistence; {memory.words}", performance)
    worst = max(finding.state for finding in found)
    return Finding(worst, "; ".join([*(finding.text for finding in found), memory.words]), performance)


def check_beat(beats: Sequence[Heartbeat], now_s: float, least: int = 1) -> Finding:
    """`cronq check beat`: at least *least* beats were heard of lately; fewer than two is no redundancy."""
    alive = [beat for beat in beats if beat.is_alive(now_s)]
    performance = f"'beats'={len(alive)};;{least}:"
    if len(alive) < least:
        last = max((beat.seen_at for beat in beats), default=None)
        heard = f", the last was heard of {format_duration(now_s - last)} ago" if last is not None else ""
        return Finding(
            CRITICAL, f"{len(alive)} beats are alive, {least} needed{heard}; start `cronq beat`", performance
        )
    stuck = [beat for beat in alive if now_s - float(beat.facts.get("last_pass") or beat.seen_at) > ALIVE_S]
    if stuck:
        return Finding(CRITICAL, f"the beat {stuck[0].id} lives but has made no pass for {ALIVE_S:g} s", performance)
    if len(alive) == 1:
        return Finding(WARNING, "only 1 beat is alive: when it dies, ticks wait; run two", performance)
    return Finding(OK, f"{len(alive)} beats are alive: {', '.join(beat.id for beat in alive)}", performance)


def check_workers(workers: Sequence[Heartbeat], now_s: float, least: int = 1) -> Finding:
    """`cronq check workers`: at least *least* workers were heard of lately, and none fell silent within the last hour.

    A worker that ends in order removes its entry. A silent one was killed, or stands still: then it still has its run,
    whose lock may be somebody else's by now.
    """
    alive = [worker for worker in workers if worker.is_alive(now_s)]
    silent = [worker for worker in workers if not worker.is_alive(now_s)]
    performance = f"'workers'={len(alive)};;{least}:"
    if len(alive) < least:
        return Finding(CRITICAL, f"{_alive(len(alive))}, {least} needed; start `cronq worker`", performance)
    if silent:
        last = max(silent, key=lambda worker: worker.seen_at)
        span = format_duration(now_s - last.seen_at)
        where = f"{last.id} (pid {last.pid} on {last.host})"
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        problem = f"{where}{more} was not heard of for {span}: killed, or standing still; end it, its run is settled"
        return Finding(WARNING, problem, performance)
    return Finding(OK, _alive(len(alive)), performance)


def _alive(workers: int) -> str:
    return "1 worker is alive" if workers == 1 else f"{workers} workers are alive"


def check_clock(client: Redis, beats: Sequence[Heartbeat], now_s: float) -> Finding:
    """`cronq check clock`: this host's clock, and those of the beats, against the server's."""
    before = wall_s()
    server_s = time_s(client.time())
    here = (before + wall_s()) / 2 - server_s
    offsets = {"this host": here}
    for beat in beats:
        if beat.is_alive(now_s) and beat.facts.get("clock_offset_s") is not None:
            offsets[beat.id] = float(beat.facts["clock_offset_s"])
    where, worst = max(offsets.items(), key=lambda item: abs(item[1]))
    performance = f"'offset'={here:.3f}s;-{SKEW_WARN_S:g}:{SKEW_WARN_S:g}"
    if abs(worst) > SKEW_WARN_S:
        text_ = f"the clock of {where} differs from Redis by {worst:+.1f} s; ticks are right, its logs are not: use NTP"
        return Finding(WARNING, text_, performance)
    return Finding(OK, f"all clocks are within {SKEW_WARN_S:g} s of Redis", performance)
