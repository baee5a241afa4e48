"""Every Redis key cronq touches: its name, type, life and the one module that owns it.

Singular for one thing, plural for a collection. Names of jobs match `[A-Za-z0-9_-]{1,100}`, so `:` is never
ambiguous. Times inside are epoch seconds, UTC. No other module spells a key.

    key                       type    holds                                      owner                 life
    jobs                      SET     names of all jobs                          jobs.store            permanent
    job:{name}                HASH    spec (JSON), version, source, modules      jobs.store            permanent
    job:{name}:state          HASH    mark, pause, skips, streak, last outcomes  jobs.store            with the job
    job:{name}:template       HASH    an RQ job hash, copied by each claim       jobs.store            permanent
    job:{name}:changes        LIST    its last changes (JSON), newest first      jobs.store            with the job
    agenda                    ZSET    job name by its next tick                  jobs.store            permanent
    catchup                   ZSET    late runs that are held: job:tick          jobs.catchup_line     while any is
    catchup-rate              HASH    when that line may go on; the rate         jobs.catchup_line     a day after use
    epoch                     STRING  random id; its absence means a new Redis   jobs.store            permanent
    schema                    STRING  version of this layout                     jobs.store            permanent
    calendars                 HASH    calendar -> its days (JSON); a version  jobs.calendars       permanent
    job:{name}:runs           ZSET    run ids by tick                            runs.store            with the job
    job:{name}:manual         ZSET    run ids without a tick, by creation        runs.store            with the job
    job:{name}:active         HASH    open runs of ticks: run id -> its state    runs.store            with the job
    job:{name}:given          HASH    open runs without a tick, likewise         runs.store            with the job
    job:{name}:children       HASH    child -> options that name the job (JSON)  jobs.store            while any does
    job:{name}:gated          ZSET    runs of children, by what they wait for    runs.gates            while any waits
    gated                     SET     jobs that runs of children wait for        runs.gates            permanent
    untriggered               SET     jobs whose parents ended, still to start   runs.gates            permanent
    removals                  HASH    removed job -> by whom, when               runs.bulk_stop        permanent
    removed:{name}:{set}      HASH    its open runs, of that set: to be stopped  runs.bulk_stop        till they are
    job:{name}:waiting        ZSET    runs that wait for the lock {name}         runs.store            while any waits
    waiting                   SET     locks that runs wait for                   runs.store            permanent
    job:{name}:behind         ZSET    runs that wait behind an earlier, by tick  runs.store            while any waits
    behind                    SET     jobs of which runs wait so                 runs.store            permanent
    run:{id}                  HASH    one run: tick, state, outcome, reason …    runs.store            30 d from its end
    dedup:{name}:{tick}       STRING  token of the beat that claimed the tick    runs.claim            an hour
    stop:{id}                 STRING  who asked the run to stop                  runs.store            a day
    running                   ZSET    run ids by last heartbeat                  runs.store            permanent
    refused                   STREAM  ids that workers set aside, and why        runs.store            permanent, capped
    events                    STREAM  every change of a run or a job, capped     runs.events           permanent
    holds                     HASH    paused queues, drained hosts and workers   hosts.drain           permanent
    groups                    HASH    group -> its hosts and groups              hosts.groups          permanent
    beats, workers            HASH    process id -> heartbeat (JSON)             hosts.heartbeats      permanent
    passes                    STRING  when a beat last made a completed pass     hosts.outages         permanent
    outages                   LIST    spans without a pass, newest first, why    hosts.outages         30 days
    deploys                   LIST    what code workers run since when           hosts.deploys         permanent, capped
    rq-cron                   STRING  the beat that publishes RQ's cron record   interop.rq_cron       70 s
    fence:{lock}              HASH    last fencing token, last holder            locks.lock            30 d from its use
    lock:{prefix}:{lock}      STRING  python-redis-lock's own layout             locks.lock            the lock's ttl
    lock-signal:{prefix}:{lock}  LIST  python-redis-lock's wake-up               locks.lock            1 s
    guarded                   ZSET    names of guarded runs, by their last one   runs.guarded          30 d from that
    delayed                   ZSET    run ids of delayed runs by due time        runs.delayed          permanent
    retries                   ZSET    run ids by the due time of their next try  runs.retrying         permanent
    foreign                   ZSET    RQ jobs not ours at work, by heartbeat     interop.in_progress   permanent
    aside                     HASH    foreign id -> why it is not served         interop.rq_scheduler  30 days
    memory                    LIST    what Redis used, and when, newest first    monitor.growth        2 days
    broken:{key}:{time}       any     a key of a wrong type, moved aside         jobs.quarantine       7 days

`rq:*` belongs to RQ and is written by RQ's code or by the scripts in `lua/`, under a contract test; but for
`rq:cronq:prefix`, which `hosts.installation` owns, and two fields of ours: `cronq_put_back` in the hash of an RQ job,
and `cronq_offer` in that of a worker, the number of its newest offer that was answered (`runs.exchange`).
"""

from __future__ import annotations

from dataclasses import dataclass

#: What each key of RQ begins with; the scripts are given it, too (`lua/parts/rq.lua`).
RQ = "rq:"
#: RQ's own names, as its queue, job, registry and execution modules build them.
RQ_QUEUES = f"{RQ}queues"
RQ_CRON_SCHEDULERS = f"{RQ}cron_schedulers"
#: STRING, permanent, ours: `PREFIX EPOCH`, the one installation that this database serves and its last start. It
#: stands among RQ's keys because these are what two installations would share.
RQ_CRONQ_PREFIX = "rq:cronq:prefix"
#: rq-scheduler's store, a ZSET of RQ job ids by due time; its name is that library's, whatever RQ's keys begin with.
RQ_SCHEDULED_JOBS = "rq:scheduler:scheduled_jobs"

#: Field of an RQ job's hash: how often beats have put its id back since it last began.
UNPOPS = "cronq_put_back"


def belongs_to_rq(key: str) -> bool:
    """Return True if *key* is RQ's or rq-scheduler's, and so not ours to move or mend."""
    return key.startswith((RQ, "rq:"))


def rq_queue(queue: str) -> str:
    """LIST of job ids that wait in *queue*."""
    return f"{RQ}queue:{queue}"


def queue_name(key: str) -> str:
    """The name of the queue whose LIST is *key*, as RQ's set of queues has it."""
    return key.removeprefix(rq_queue(""))


def rq_intermediate(queue: str) -> str:
    """LIST of job ids popped from *queue* and not yet started."""
    return f"{RQ}queue:{queue}:intermediate"


def rq_job(run_id: str) -> str:
    """HASH of one RQ job."""
    return f"{RQ}job:{run_id}"


def rq_started(queue: str) -> str:
    """ZSET `job:execution` by expiry: what is being worked on."""
    return f"{RQ}wip:{queue}"


def rq_scheduled(queue: str) -> str:
    """ZSET of job ids by due time: what RQ itself holds back for *queue*."""
    return f"{RQ}scheduled:{queue}"


def rq_finished(queue: str) -> str:
    """ZSET of job ids by expiry."""
    return f"{RQ}finished:{queue}"


def rq_failed(queue: str) -> str:
    """ZSET of job ids by expiry."""
    return f"{RQ}failed:{queue}"


def rq_canceled(queue: str) -> str:
    """ZSET of job ids by expiry."""
    return f"{RQ}canceled:{queue}"


def rq_execution(run_id: str, execution_id: str) -> str:
    """HASH of one execution of one RQ job."""
    return f"{RQ}execution:{run_id}:{execution_id}"


def rq_executions(run_id: str) -> str:
    """ZSET of execution ids of one RQ job."""
    return f"{RQ}executions:{run_id}"


def rq_worker(name: str) -> str:
    """HASH of one RQ worker."""
    return f"{RQ}worker:{name}"


def rq_cron_scheduler(name: str) -> str:
    """HASH of one record of RQ's cron."""
    return f"{RQ}cron_scheduler:{name}"


@dataclass(frozen=True)
class Keys:
    """The keys of one installation; *prefix* is the first part of each."""

    prefix: str = "cronq"

    @property
    def jobs(self) -> str:
        return f"{self.prefix}:jobs"

    def job(self, name: str) -> str:
        return f"{self.prefix}:job:{name}"

    def state(self, name: str) -> str:
        return f"{self.prefix}:job:{name}:state"

    def template(self, name: str) -> str:
        return f"{self.prefix}:job:{name}:template"

    def changes(self, name: str) -> str:
        return f"{self.prefix}:job:{name}:changes"

    @property
    def agenda(self) -> str:
        return f"{self.prefix}:agenda"

    @property
    def catchup(self) -> str:
        return f"{self.prefix}:catchup"

    @property
    def catchup_rate(self) -> str:
        return f"{self.prefix}:catchup-rate"

    @property
    def epoch(self) -> str:
        return f"{self.prefix}:epoch"

    @property
    def schema(self) -> str:
        return f"{self.prefix}:schema"

    @property
    def calendars(self) -> str:
        return f"{self.prefix}:calendars"

    def runs(self, name: str) -> str:
        return f"{self.prefix}:job:{name}:runs"

    def manual(self, name: str) -> str:
        return f"{self.prefix}:job:{name}:manual"

    def active(self, name: str) -> str:
        return f"{self.prefix}:job:{name}:active"

    def given(self, name: str) -> str:
        return f"{self.prefix}:job:{name}:given"

    def children(self, name: str) -> str:
        """Jobs that name the job *name* in `depends_on` or `after`; it need not exist itself."""
        return f"{self.prefix}:job:{name}:children"

    @property
    def removals(self) -> str:
        return f"{self.prefix}:removals"

    def removed(self, name: str, set: str) -> str:
        """What a removal has made of the set `active` or `given` of a job."""
        return f"{self.prefix}:removed:{name}:{set}"

    def waiting(self, name: str) -> str:
        """Runs that wait for the lock *name*, which is the job's own name unless it shares another."""
        return f"{self.prefix}:job:{name}:waiting"

    @property
    def waiting_locks(self) -> str:
        return f"{self.prefix}:waiting"

    def behind(self, name: str) -> str:
        """Runs of the job *name* that wait behind an earlier one, by tick."""
        return f"{self.prefix}:job:{name}:behind"

    @property
    def jobs_behind(self) -> str:
        return f"{self.prefix}:behind"

    def gated(self, name: str) -> str:
        """Runs that wait for the job *name* to succeed, by the moment up to which it must have."""
        return f"{self.prefix}:job:{name}:gated"

    @property
    def gated_by(self) -> str:
        return f"{self.prefix}:gated"

    @property
    def untriggered(self) -> str:
        return f"{self.prefix}:untriggered"

    def run(self, run_id: str) -> str:
        return f"{self.prefix}:run:{run_id}"

    def dedup(self, name: str, tick: int) -> str:
        return f"{self.prefix}:dedup:{name}:{tick}"

    def stop(self, run_id: str) -> str:
        return f"{self.prefix}:stop:{run_id}"

    @property
    def running(self) -> str:
        return f"{self.prefix}:running"

    @property
    def refused(self) -> str:
        return f"{self.prefix}:refused"

    @property
    def events(self) -> str:
        return f"{self.prefix}:events"

    @property
    def delayed(self) -> str:
        return f"{self.prefix}:delayed"

    @property
    def retries(self) -> str:
        return f"{self.prefix}:retries"

    @property
    def holder(self) -> str:
        """What all beats of this installation write into the locks that stock schedulers respect."""
        return f"cronq beats of {self.prefix}"

    @property
    def guarded(self) -> str:
        return f"{self.prefix}:guarded"

    @property
    def foreign(self) -> str:
        return f"{self.prefix}:foreign"

    @property
    def aside(self) -> str:
        return f"{self.prefix}:aside"

    @property
    def memory(self) -> str:
        return f"{self.prefix}:memory"

    @property
    def holds(self) -> str:
        return f"{self.prefix}:holds"

    @property
    def groups(self) -> str:
        return f"{self.prefix}:groups"

    @property
    def beats(self) -> str:
        return f"{self.prefix}:beats"

    @property
    def workers(self) -> str:
        return f"{self.prefix}:workers"

    @property
    def passes(self) -> str:
        return f"{self.prefix}:passes"

    @property
    def outages(self) -> str:
        return f"{self.prefix}:outages"

    @property
    def deploys(self) -> str:
        return f"{self.prefix}:deploys"

    @property
    def rq_cron(self) -> str:
        return f"{self.prefix}:rq-cron"

    @property
    def wake(self) -> str:
        """Channel on which the scripts say that something was queued; losing a message costs a second."""
        return f"{self.prefix}:wake"

    def fence(self, lock: str) -> str:
        return f"{self.prefix}:fence:{lock}"

    @property
    def fences(self) -> str:
        """Pattern of all fence keys, for SCAN."""
        return f"{self.prefix}:fence:*"

    def lock_name(self, lock: str) -> str:
        """What `redis_lock.Lock` is given as a name; it puts `lock:` or `lock-signal:` in front itself."""
        return f"{self.prefix}:{lock}"

    def lock(self, lock: str) -> str:
        """The STRING that python-redis-lock keeps for *lock*."""
        return f"lock:{self.prefix}:{lock}"

    def lock_signal(self, lock: str) -> str:
        """The LIST by which python-redis-lock wakes one who waits for *lock*."""
        return f"lock-signal:{self.prefix}:{lock}"

    def broken(self, key: str, moment: str) -> str:
        """Where a key of a wrong type is moved, so that its job can go on and a person can look at it."""
        return f"{self.prefix}:broken:{key}:{moment}"
