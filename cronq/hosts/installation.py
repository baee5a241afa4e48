"""One Redis database serves one installation: ids of runs and names of queues in it bear no prefix of cronq's."""

from __future__ import annotations

from redis import Redis
from redis.client import Pipeline

from cronq.db.decode import number, text
from cronq.db.keys import RQ_CRONQ_PREFIX, Keys
from cronq.errors import RedisUnfit
from cronq.hosts.heartbeats import ALIVE_S, Heartbeat, Heartbeats
from cronq.timetext import format_duration


class Installation:
    """The prefix that beats and workers of one Redis database have in common."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def settle_in(self) -> list[str]:
        """Make this database that of our prefix; a warning when it was that of another one that is gone.

        Raises RedisUnfit while another installation has jobs here, or a beat or worker of it is alive: each would take
        the other's runs from the queues and fail them, and runs of jobs of the same name would be one RQ job.
        A start of the other one within the last 20 s counts too: it has yet to store its jobs. One transaction, so of
        two installations that begin at once only one gets the database.
        """
        warnings: list[str] = []

        def take(pipe: Pipeline) -> None:
            warnings.clear()
            found = pipe.get(RQ_CRONQ_PREFIX)
            seconds, _ = pipe.time()
            other, _, since = text(found or b"").partition(" ")
            if other not in ("", self.keys.prefix):
                self._refuse_beside(other, seconds - (number(since) or 0.0))
                gone = f"this database served prefix {other!r} before, of which nothing is left"
                warnings.append(f"{gone}; it serves {self.keys.prefix!r} from now on")
            pipe.multi()
            pipe.set(RQ_CRONQ_PREFIX, f"{self.keys.prefix} {seconds}")

        self.client.transaction(take, RQ_CRONQ_PREFIX)
        return warnings

    def _refuse_beside(self, other: str, age_s: float) -> None:
        """Raise RedisUnfit when *other* is there, or began *age_s* ago and has yet to say that it is."""
        theirs = Keys(other)
        jobs = self.client.scard(theirs.jobs)
        hosts = Heartbeats(self.client, theirs)
        alive = [each.id for kind in ("beats", "workers") for each in _alive(hosts, kind)]
        if not jobs and not alive and age_s > ALIVE_S:
            return
        what = f"{jobs} jobs, {len(alive)} beats and workers, last start {format_duration(max(0.0, age_s))} ago"
        raise RedisUnfit(
            f"prefix {self.keys.prefix!r}: this Redis database serves the installation with prefix {other!r} ({what}), "
            "and runs and queues of two would mix; give this one a database number of its own in the URL, "
            f"or `redis-cli DEL {RQ_CRONQ_PREFIX}` when the other is given up"
        )


def _alive(hosts: Heartbeats, kind: str) -> list[Heartbeat]:
    heartbeats, now_s = hosts.read(kind)
    return [each for each in heartbeats if each.is_alive(now_s)]
