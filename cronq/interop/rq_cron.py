"""RQ's own cron record of our jobs, so that tools which show RQ's cron list cronq's schedules as well.

One record for all beats, written by one of them at a time. It is a courtesy: it has a thread and connections of its
own, and what goes wrong here is said once and disturbs nothing.
"""

from __future__ import annotations

import json
import logging
import threading
from functools import lru_cache
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.keys import RQ_CRON_SCHEDULERS, Keys, rq_cron_scheduler
from cronq.hosts.heartbeats import Heartbeats
from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob
from cronq.schedule.bounds import BoundedSchedule
from cronq.schedule.schedule import CronSchedule, DailySchedule, IntervalSchedule
from cronq.timetext import DAY_S, rq_stamp, utc

log = logging.getLogger("cronq.beat")

#: How often the record is written; RQ's tools take one for dead that is older than two minutes.
PUBLISH_EVERY_S = 45.0
_RECORD_LIFE_S = 120
#: A beat that fell silent for so long has lost its turn.
_TURN_S = 70
#: The record is one value that its readers take as a whole; of more jobs, those that are due next.
_MOST_JOBS = 1000


class RqCron:
    """A chore of the beat: publishes the record, named after the installation's prefix, by a *client* of its own."""

    def __init__(self, client: Redis, keys: Keys, jobs: JobStore, *, beat_id: str, host: str, pid: int) -> None:
        self.client = client
        self.keys = keys
        self.jobs = jobs
        self.beat_id = beat_id
        self.host = host
        self.pid = pid
        self._script: Any = scripts.load(client, "interop/publish_cron")
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def once(self, now_s: float) -> None:
        """Begin to publish in a thread, unless the last time still goes on."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._try, args=(now_s,), name="cronq-rq-cron", daemon=True)
            self._thread.start()

    def _try(self, now_s: float) -> None:
        try:
            self.publish(now_s)
            self._has_failed = False
        except Exception as error:  # whatever it is: nobody's work depends on this record
            if not self._has_failed:
                log.warning("RQ-CRON the record for RQ's tools could not be published: %s", error)
            self._has_failed = True

    def publish(self, now_s: float) -> bool:
        """Write the record if it is this beat's turn. Return True if it was. *now_s* is server time."""
        if not self._send(now_s, {}):
            return False
        found = self.jobs.find(self.jobs.next_due(_MOST_JOBS)).values()
        entries = [entry for job in found if isinstance(job, StoredJob) if (entry := entry_of(job)) is not None]
        beats, server_s = Heartbeats(self.client, self.keys).read("beats")
        alive = [beat for beat in beats if beat.is_alive(server_s)]
        hosts = ", ".join(sorted({beat.host for beat in alive} | {self.host}))
        return self._send(
            now_s,
            {
                "hostname": self.host,
                "pid": str(self.pid),
                "name": self.keys.prefix,
                "created_at": rq_stamp(min((beat.started_at for beat in alive), default=now_s)),
                "config_file": f"cronq, beats on {hosts}",
                "cron_jobs": json.dumps(entries),
            },
        )

    def _send(self, now_s: float, record: dict[str, str]) -> bool:
        name = self.keys.prefix
        flat = [part for pair in record.items() for part in pair]
        return bool(
            self._script(
                keys=[self.keys.rq_cron, RQ_CRON_SCHEDULERS, rq_cron_scheduler(name)],
                args=[self.beat_id, _TURN_S, name, repr(now_s), _RECORD_LIFE_S, *flat],
            )
        )


def entry_of(job: StoredJob) -> dict[str, Any] | None:
    """*job* as RQ's cron describes its own; None for what its readers could not show.

    One entry that they cannot parse empties their whole page. Arguments are left out: they may be secrets.
    """
    spec, schedule = job.spec, job.spec.schedule
    cron = interval = None
    if isinstance(schedule, BoundedSchedule):
        schedule = schedule.whole
    if isinstance(schedule, CronSchedule):
        cron = _for_croniter(schedule.expression)
    elif isinstance(schedule, IntervalSchedule):
        interval = schedule.every_s
    elif isinstance(schedule, DailySchedule):
        interval = schedule.days * DAY_S
    if (cron is None and interval is None) or job.next_tick is None:
        return None
    meta = {"cronq_job": spec.name, "schedule": str(schedule), "timezone": spec.tz}
    if job.state.pause is not None:
        meta["paused_by"] = job.state.pause.by
    return {
        "func_name": spec.function.replace(":", ".") if spec.function else spec.name,
        "name": spec.name,
        "queue_name": spec.queue,
        "args": None,
        "kwargs": None,
        "interval": interval,
        "cron": cron,
        "latest_enqueue_time": None if job.state.last_tick is None else rq_stamp(job.state.last_tick),
        "next_enqueue_time": rq_stamp(job.next_tick),
        "job_timeout": int(spec.timeout),
        "result_ttl": result_life_s(spec),
        "failure_ttl": failure_life_s(spec),
        "meta": json.dumps(meta),
    }


@lru_cache(maxsize=4096)
def _for_croniter(expression: str) -> str | None:
    """Six fields with seconds first as RQ's cron has them: five, or with seconds last; None when it refuses them."""
    from croniter import croniter  # RQ brings it; only who publishes needs it

    second, *fields = expression.split()
    text = " ".join(fields if second == "0" else [*fields, second])
    try:
        ticks: Any = croniter(text, utc(0))
        ticks.get_next(float)
    except (ValueError, KeyError, TypeError):
        return None
    return text
