"""Makes a beat: its pass over the agenda, and the chores that it does in between."""

from __future__ import annotations

import os

from cronq.app.parts import Parts
from cronq.beat.audit import Audit
from cronq.beat.beat import Beat
from cronq.beat.brake import Brake
from cronq.beat.chores import Chore
from cronq.beat.claiming import BeatStatus, Claiming
from cronq.beat.holding import Holding
from cronq.beat.passes import PassNotes
from cronq.beat.reconcile import Reconcile
from cronq.beat.repair import Repair
from cronq.beat.restore import Restore
from cronq.beat.sweep import Sweep
from cronq.beat.tidy import TIDY_EVERY_S, Tidy
from cronq.beat.waiting import WaitingWalk
from cronq.clock import boot_s
from cronq.db.client import own_client
from cronq.hosts.heartbeats import HEARTBEAT_S, Heart
from cronq.hosts.outages import NOTE_PASS_EVERY_S
from cronq.interop.rq_cron import PUBLISH_EVERY_S, RqCron
from cronq.interop.rq_scheduler import RENEW_EVERY_S
from cronq.jobs.calendars import KnownCalendars
from cronq.jobs.catchup_line import CatchupRate
from cronq.jobs.store import JobStore
from cronq.monitor.growth import NOTE_EVERY_S
from cronq.runs.timing import Timing

#: Each costs an idle beat a round trip, of which it has two a second.
_COMPARE_S, _AUDIT_S = 10.0, 30.0
_WALKS = ("waiting", "retrying")
#: RQ's cron record is published through connections that give up so soon.
_RQ_CRON_TIMEOUT_S = 2.0


def make_beat(parts: Parts) -> Beat:
    """A beat, ready to `run`; what the registry holds by now is restored should Redis lose it."""
    beat_id = f"{parts.config.host}.{os.getpid()}"
    by, timing = f"beat {beat_id}", Timing(parts.config.lost_after)
    definitions = parts.definitions(by)
    repair = Repair(parts.jobs, parts.quarantine, definitions.changes, definitions.known)
    restore, status = Restore(definitions, repair), BeatStatus(parts.clock)
    heart = Heart(parts.heartbeats, "beats", beat_id, parts.config.host, status.facts)
    sweep = Sweep(parts.client, parts.keys, parts.runs, by=by, timing=timing)
    tidy = Tidy(parts.client, parts.heartbeats)
    reconcile = Reconcile(parts.client, parts.keys, parts.runs, by=by, patience_s=timing.missed_s)
    serves = parts.config.serve_rq_scheduler
    serving = Chore("held back", RENEW_EVERY_S, parts.scheduled_stores(by).once) if serves else None
    retrying = Chore("retries", _AUDIT_S, parts.retrying.once)
    audit = Chore("audit", _AUDIT_S, Audit(parts.quarantine, repair).once)
    passes = PassNotes(parts.outage_notes, parts.clock, lambda: status.last_pass_s, by=by)
    chores = [
        retrying,
        Chore("heartbeat", HEARTBEAT_S, heart.beat),
        Chore("passes", NOTE_PASS_EVERY_S, passes.once, passes.outage),
        Chore("sweep", timing.sweep_s, lambda _: sweep.once(), sweep.outage),
        Chore("tidy", TIDY_EVERY_S, lambda now_s: tidy.once(sweep.queues, now_s)),
        Chore("compare", _COMPARE_S, reconcile.once, reconcile.outage),
        Chore("removals", _AUDIT_S, parts.bulk_stop.once),
        Chore("requeued", _COMPARE_S, lambda now_s: parts.requeued.once(sweep.queues, now_s)),
        *(Chore(what, _AUDIT_S, WaitingWalk(parts.client, parts.keys, parts.quarantine, what).once) for what in _WALKS),
        Chore("orphans", _COMPARE_S, restore.once),
        Chore("growth", NOTE_EVERY_S, parts.growth.note),
        audit,
    ]
    if parts.config.publish_rq_cron:
        # Not at once: a beat that has just been started has ticks to serve first.
        first = boot_s() + PUBLISH_EVERY_S / 3
        chores.append(Chore("rq-cron", PUBLISH_EVERY_S, make_rq_cron(parts, beat_id).once, due_boot=first))
    return Beat(
        parts.jobs,
        _make_claiming(parts, by, repair, status),
        repair,
        status,
        client=parts.client,
        brake=Brake(parts.catchup_line, CatchupRate(parts.config.catchup_rate)),
        renew_epoch=lambda: restore.renew_epoch(parts.now_s()),
        chores=[serving, *chores] if serving is not None else chores,
        serving=serving,
        retrying=retrying,
        audit=audit,
        leave=heart.leave,
    )


def _make_claiming(parts: Parts, by: str, repair: Repair, status: BeatStatus) -> Claiming:
    holding = Holding(parts.catchup_line, is_on=parts.config.catchup_rate > 0)
    known, batch = KnownCalendars(parts.calendars), parts.config.batch
    return Claiming(parts.jobs, parts.claimer(by), repair, status, known, holding, batch=batch)


def make_rq_cron(parts: Parts, beat_id: str) -> RqCron:
    """What publishes RQ's cron record, through connections of its own."""
    client = own_client(parts.client, _RQ_CRON_TIMEOUT_S)
    jobs = JobStore(client, parts.keys, parts.config.keep_events)
    return RqCron(client, parts.keys, jobs, beat_id=beat_id, host=parts.config.host, pid=os.getpid())
