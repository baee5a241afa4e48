"""The worker: an RQ worker that RQ's tools see and drive, whose runs have a guardian.

Every override of RQ is in this file. What RQ does itself and this worker does otherwise: it takes ids with LMOVE
whatever the number of queues, goes on when Redis is away, never unpickles what it finds in Redis, leaves the
tidying of RQ's registries to the beats' sweep, and hands the work to a `Guardian`.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import rq
from redis import Redis
from redis.exceptions import RedisError
from rq.command import parse_payload
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.job import Job
from rq.logutils import ColorizingStreamHandler, setup_loghandlers
from rq.worker.base import DequeueStrategy, WorkerStatus

from cronq.clock import Stop, boot_s, rest
from cronq.db.decode import text, time_s
from cronq.db.faults import Backoff, Outage
from cronq.errors import KeyBroken, RedisUnavailable
from cronq.hosts.deploys import Deploy, Deploys
from cronq.runs.exchange import Begun, Taken
from cronq.runs.run import Run
from cronq.safetext import OneLine
from cronq.timetext import format_duration
from cronq.version import VERSION
from cronq.worker.active_run import StopRequest
from cronq.worker.application import Application
from cronq.worker.parts import Parts, make_parts
from cronq.worker.process_parts import ProcessParts, make_process_parts

if TYPE_CHECKING:
    from redis.client import Pipeline

    from cronq.jobs.stored import StoredJob
    from cronq.process.watchdog import Child

log = logging.getLogger("cronq.worker")

_IDLE_WAIT_S = 1.0
#: How long a worker that leaves waits for a slow reader of its runs' output.
_LAST_WORDS_S = 5.0
_SETTING_UP_LOGS = threading.Lock()


class GuardedWorker(rq.Worker):
    """RQ's worker with a guardian for its runs; *app* is None only where RQ makes one to look at a worker's record.

    A process may have several, each in a thread of its own, which are given what is *shared*; their signals are the
    main thread's affair.
    """

    def __init__(
        self,
        queues: Any,
        name: str | None = None,
        *args: Any,
        app: Application | None = None,
        shared: ProcessParts | None = None,
        **options: Any,
    ) -> None:
        self._app = app
        self._shared = shared
        if name is None and app is not None:
            name = worker_name(app.config.host)
        options["maintenance_interval"] = 10**9  # reading and tidying registries is the sweep's
        super().__init__(queues, name, *args, **options)
        self._stopping = Stop()
        self._leave_at: float | None = None
        self.told: set[int] = set()  #: the signals that told it to leave
        self._present: StopRequest | None = None
        self._stop_next: Any = None  #: the run that RQ's last stop command named, if it is not the present one
        self._outage = Outage(log, self.connection)
        self._last_heartbeat: float | None = None
        self._parts: Parts | None = None

    # The loop

    def work(
        self,
        burst: bool = False,
        logging_level: str | None = None,
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = False,
        dequeue_strategy: DequeueStrategy = DequeueStrategy.DEFAULT,
    ) -> bool:
        """Run what is queued until told to stop. Return True if anything was run.

        `with_scheduler` is not needed: beats serve what is scheduled.
        """
        self._dequeue_strategy = dequeue_strategy
        _set_up_logs(logging_level, date_format, log_format)
        self._install_signal_handlers()
        shared = self._shared or make_process_parts(self.app, self.connection, self.tell_handlers)
        self._parts = make_parts(
            self,
            self,
            self.app,
            shared,
            facts=self._facts,
            on_look=self.look_around,
            on_broken=self._quarantine,
            is_leaving=self._stopping.is_set,
            # Several of a process share calls, which saves more; other strategies say after each run where to look.
            goes_ahead=not shared.are_many and dequeue_strategy == DequeueStrategy.DEFAULT,
        )
        try:
            self._outage.ride_out(self.meet_redis, self._stopping)
            self._outage.ride_out(lambda: self.bootstrap(logging_level, date_format, log_format), self._stopping)
            self._note_deploy()
            return self._loop(burst, max_jobs, max_idle_time)
        finally:
            self._leave()

    def _note_deploy(self) -> None:
        """Note what code this worker runs; whatever keeps it from that keeps no run back."""
        config = self.app.config
        try:
            deploys = Deploys(self.parts.shared.prompt, self.app.keys)
            now_s = self.app.clock.now_s()
            deploys.note(Deploy(now_s, config.host, config.jobs, config.revision, self.parts.shared.code, VERSION))
        except (RedisError, OSError) as error:  # also when this user of Redis may not write there
            log.debug("what code runs here is not noted: %s", error)

    def meet_redis(self) -> None:
        """Ask Redis for its time: the first command, which `work` repeats until it is answered."""
        self.app.now_s()

    @property
    def app(self) -> Application:
        """The application that made this worker. Raises RuntimeError where RQ made it, to look at a record."""
        if self._app is None:
            raise RuntimeError(f"{self.name} is the record of a worker, which cannot work itself")
        return self._app

    @property
    def parts(self) -> Parts:
        """What this worker works with. Raises RuntimeError before `work`."""
        if self._parts is None:
            raise RuntimeError(f"the worker {self.name} has not begun to work")
        return self._parts

    def _loop(self, burst: bool, max_jobs: int | None, max_idle_time: int | None) -> bool:
        dequeue, giving_up = self.parts.dequeue, self.parts.settler.giving_up
        done = 0
        idle_since = boot_s()
        backoff = Backoff()
        is_done = False  # it takes no more, but may owe Redis the end of a run
        while not is_done or dequeue.owes:
            is_done = is_done or self._stopping.is_set()
            try:
                self.beat_heart()
                found = dequeue.finish() if is_done else self._take(0.0 if burst else _IDLE_WAIT_S)
                self._outage.over()
                if found is not None:
                    done += self._serve(found)
                    idle_since = boot_s()
                elif not is_done:
                    self._note_whether_held(burst)
                if not (is_done and dequeue.owes and found is None):
                    backoff.reset()
                elif self._gives_up() or rest(backoff.next_s(), giving_up):
                    continue
            except (RedisError, OSError, RedisUnavailable) as error:
                self._outage.noticed(error)
                if not self._gives_up():
                    rest(backoff.next_s(), giving_up if is_done else self._stopping)
                continue
            except Exception:  # one bad run must not take the worker along
                log.exception("a run could not be served; going on")
                rest(backoff.first_s, giving_up if is_done else self._stopping)
                continue
            is_done = is_done or (found is None and burst) or (max_jobs is not None and done >= max_jobs)
            if max_idle_time is not None and boot_s() - idle_since >= max_idle_time:
                is_done = True
        return bool(done)

    def _gives_up(self) -> bool:
        """Give up what Redis does not take, if it is too late for that. Return True if so."""
        is_too_late = self.parts.settler.is_too_late()
        if is_too_late:
            self.parts.dequeue.abandon()
        return is_too_late

    def _note_whether_held(self, burst: bool) -> None:
        """Show RQ's tools when `rq suspend` or a drain keeps this worker from taking; a burst does not wait for it."""
        held = self.parts.dequeue.held
        if held is None:
            if self.get_state() == WorkerStatus.SUSPENDED:
                log.warning("RESUMED")
                self.set_state(WorkerStatus.IDLE)
            return
        if self.get_state() != WorkerStatus.SUSPENDED:
            log.warning("SUSPENDED %s", held)
            self.set_state(WorkerStatus.SUSPENDED)
        if burst:
            self._stopping.set()
        rest(_IDLE_WAIT_S, self._stopping)

    # Taking

    def _take(self, wait_s: float) -> Begun | Taken | None:
        """Take a run, or an id; None when there is none. Queues change places as RQ's dequeue strategy says."""
        found = self.parts.dequeue.take([queue.name for queue in self._ordered_queues], wait_s)
        if found is not None and len(self.queues) > 1:
            name = found.run.queue if isinstance(found, Begun) else found.queue
            for queue in [each for each in self.queues if each.name == name]:
                self.reorder_queues(queue)
        return found

    def _serve(self, found: Begun | Taken) -> int:
        """Do what is to be done with a run or an id. Return 1, 0 for an id that is not served any more."""
        if self.get_state() == WorkerStatus.SUSPENDED:
            log.warning("RESUMED")
            self._state = WorkerStatus.IDLE
        if self._stopping.is_set():  # it came while the signal did
            self.parts.dequeue.give_back(found)
            return 0
        if isinstance(found, Begun):
            self._carry_on(found)
        else:
            opened = self.parts.taken_ids.open(found.queue, found.raw_id)
            if opened is not None:
                self._execute(*opened)
        return 1

    def _carry_on(self, begun: Begun) -> None:
        """Have a run executed that has been started for this worker."""
        run_id = begun.run.run_id
        present = self.begin_present(run_id)
        try:
            # RQ's command may have come while Redis knew of the start and this worker did not, or had a run still.
            if run_id in (self._stopped_job_id, self._stop_next):
                self.kill_horse()
            self._stop_next = None
            self.parts.guardian.carry_on(begun, present, worker=self.name)
        finally:
            self.end_present()

    def _execute(self, run: Run, job: StoredJob) -> None:
        """Have a run executed that was only taken."""
        present = self.begin_present(run.run_id)
        try:
            args_json = run.args or job.spec.args_json
            self.parts.guardian.execute(run, job.spec, present, worker=self.name, args_json=args_json, state=job.state)
        finally:
            self.end_present()

    def begin_present(self, run_id: str | None = None) -> StopRequest:
        """A run begins: the stop request through which signals and RQ's commands can end it. None: of an RQ job."""
        present = StopRequest(run_id)
        self._present = present
        if run_id is not None:
            self._state = WorkerStatus.BUSY  # as the script that starts the run writes it
        if self._leave_at is not None:  # the signal came since it was taken
            present.leave_by(self._leave_at)
            self._say_leaving()
        return present

    def end_present(self) -> None:
        """That run is over; the script that settles it writes the same for RQ's tools."""
        if self._present is not None and self._present.run_id is not None:
            self._state = WorkerStatus.IDLE
        self._present = self._stopped_job_id = None

    def get_current_job_id(self, pipeline: Pipeline | None = None) -> str | None:
        """The id of the run or RQ job at work; only of a record, and of an RQ job, Redis is asked."""
        present = self._present
        known = None if present is None else present.run_id
        return known if known is not None else super().get_current_job_id(pipeline)

    def spawn(
        self, order: Mapping[str, Any], deadline_boot_s: float | None = None, *, is_reusable: bool = False
    ) -> Child:
        """Start a watched child on *order*, by a new watchdog if the last one is gone. Raises WatchdogDied."""
        return self.parts.guardian.spawn(order, deadline_boot_s, is_reusable=is_reusable)

    def rest_unless_giving_up(self, seconds: float) -> bool:
        """Wait; True at once when this worker was told a second time to leave."""
        return rest(seconds, self.parts.settler.giving_up)

    def tell_handlers(self, job: Job, error: BaseException) -> None:
        """Call RQ's exception handlers, in the child of an RQ job that is not cronq's."""
        if self._exc_handlers:
            self.handle_exception(job, type(error), error, error.__traceback__)

    def _quarantine(self, broken: KeyBroken) -> None:
        """Quarantine a key of a lock, so that the next run can take it."""
        for key in self.app.quarantine.move(broken.key, broken.kind, self.app.now_s()):
            log.error("MEND moved %s aside for a week: it had a wrong type", key)

    def refuse(self, queue: str, raw_id: Any, reason: str) -> None:
        """Reject an id that this worker may not execute, with the reason."""
        self.parts.taken_ids.refuse(queue, raw_id, reason)

    def _set_connection(self, connection: Redis) -> Redis:
        """Leave time-outs as they are: RQ would raise them to 415 s, and no command of this worker blocks."""
        return connection

    # Signals, commands and heartbeats

    def _install_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            super()._install_signal_handlers()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Take no more work, and let the present run end within the grace; end it now at the second signal."""
        self.told.add(signum)
        if self._leave_at is not None:
            self._end_present()
            return
        self._stopping.set()
        self._leave_at = boot_s() + self.app.config.shutdown_grace
        if self._parts is not None:
            self._parts.settler.leave_at = self._leave_at
            self._parts.dequeue.waking.woken.set()
        if self._present is not None:
            self._present.leave_by(self._leave_at)
        if self._present is not None or (self._parts is not None and self._parts.dequeue.owes):
            self._say_leaving()

    def _say_leaving(self) -> None:
        span = format_duration(self.app.config.shutdown_grace)
        log.warning("LEAVING after the present run, in %s at the latest; a second signal ends it at once", span)

    def finish(self) -> None:
        """Take no more work, and let the present run end, however long it takes."""
        self._stopping.set()
        if self._parts is not None:
            self._parts.dequeue.waking.woken.set()
        if self._present is not None and self._leave_at is None:
            log.warning("LEAVING after the present run, however long it takes")

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """The second signal, by RQ's name."""
        self.request_stop(signum, frame)

    @property
    def is_orderly(self) -> bool:
        """Return True if Redis knows how every run of this worker ended."""
        return self._parts is None or self._parts.settler.abandoned == 0

    def _end_present(self) -> None:
        if self._parts is not None:
            self._parts.settler.giving_up.set()
        if self._present is not None:
            self._present.leave_now(f"worker {self.name}")

    @property
    def horse_pid(self) -> int:
        """The pid of the child of the present run, 0 without one: RQ's kill command looks at it."""
        present = self._present
        return present.child.pid if present is not None and present.child is not None else 0

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """End the present run, for RQ's stop and kill commands."""
        if self._present is not None:
            self._present.ask("stopped", "stopped by an RQ command", "rq")

    def handle_payload(self, message: Any) -> None:
        """Obey an RQ command; junk on the channel is logged, and the worker goes on listening."""
        try:
            payload, present = parse_payload(message), self._present
            if payload["command"] == "shutdown":  # RQ tells the whole process, which may have others
                self.request_stop(signal.SIGINT, None)
                return
            if payload["command"] == "stop-job" and present is not None and present.run_id != payload.get("job_id"):
                self._stop_next = payload.get("job_id")
            super().handle_payload(message)
        except Exception as error:
            log.warning("ignored a message on the command channel: %s", error)

    def subscribe(self) -> None:
        """Listen for RQ's commands, and for our scripts saying that something was queued."""
        self.parts.shared.listening.join(self.pubsub_channel_name, self.handle_payload)

    def unsubscribe(self) -> None:
        """Listen no more."""
        self.parts.shared.listening.part(self.pubsub_channel_name)

    def look_around(self) -> None:
        """Do what is to be done each second while a run is at work. Raises RedisError."""
        self.beat_heart()
        self.parts.dequeue.catch_up()
        self.parts.dequeue.withdraw()

    def beat_heart(self) -> None:
        """Tell RQ's tools and cronq's that this worker is alive, if it is time to.

        It is registered again in a Redis that came back empty. Raises RedisError.
        """
        now = boot_s()
        every_s = self.parts.guardian.timing.heartbeat_s
        if self._last_heartbeat is not None and now - self._last_heartbeat < every_s:
            return
        self._last_heartbeat = now
        with self.parts.shared.prompt.pipeline(transaction=False) as pipe:
            self.heartbeat(pipeline=pipe)
            pipe.hexists(self.key, "birth")
            pipe.hlen(self.app.keys.workers)
            pipe.time()
            *_, is_known, workers, clock = pipe.execute()
        self.parts.dequeue.waking.count_rivals(workers)
        self.app.clock.observe(time_s(clock))
        if not is_known:  # the heartbeat made what is there: the rest was lost with Redis
            self.register_birth()
            self.set_state(WorkerStatus.IDLE if self._present is None else WorkerStatus.BUSY)
            if self._present is not None and self._present.run_id is not None:
                self.set_current_job_id(self._present.run_id)
        self.parts.heart.beat(self.app.clock.now_s())

    def _facts(self) -> dict[str, Any]:
        """What this worker's heartbeat says of it besides that it is alive."""
        offset = self.app.clock.offset_s
        return {
            "queues": [queue.name for queue in self.queues],
            "clock_offset_s": None if offset is None else round(offset, 3),
            "held": None if self._parts is None else self._parts.dequeue.held,
            "replaced": {} if self._parts is None else dict(self._parts.watchdog.replaced),
            "version": VERSION,
            "revision": self.app.config.revision,
        }

    def register_birth(self) -> None:
        """Register this worker at RQ. Its own record, of a first try whose answer was lost, is no obstacle."""
        known = self.connection.hmget(self.key, "birth", "pid", "hostname")
        if known[0] is None or list(map(text, known[1:])) == [str(self.pid), self.hostname]:
            self.connection.delete(self.key)
        super().register_birth()

    def clean_registries(self) -> None:
        """Nothing: the beats' sweep settles what vanished, by server time and with the ledger."""

    def run_maintenance_tasks(self) -> None:
        """Nothing, for the same reason."""

    def _leave(self) -> None:
        self.parts.dequeue.waking.part()
        self.parts.watchdog.close()
        if self._shared is None:
            self.parts.shared.close()
        self.parts.shared.outlet.settle(_LAST_WORDS_S)
        for farewell in (self.teardown, self.parts.heart.leave):
            try:
                farewell()
            except Exception as error:  # redis-py ends a subscription whose connection broke with an AttributeError
                log.warning("left without saying good-bye to Redis: %s", error)


def _set_up_logs(level: str | None, date_format: str, log_format: str) -> None:
    """Give the loggers of cronq and RQ a handler where they have none, each only once however many workers begin."""
    with _SETTING_UP_LOGS:
        if not logging.getLogger("cronq").hasHandlers():  # RQ's command line: it thinks of its own log only
            setup_loghandlers(level or "INFO", date_format, log_format, name="cronq")
        for name in ("rq.worker", "rq.job"):  # as `bootstrap` will
            setup_loghandlers(level, date_format, log_format, name=name)
        for handler in logging.getLogger("cronq").handlers + logging.getLogger("rq.worker").handlers:
            if isinstance(handler, ColorizingStreamHandler):  # RQ's: it logs descriptions as they are
                handler.setFormatter(OneLine(log_format, date_format))


def worker_name(host: str) -> str:
    """A name for a worker of this process on *host*.

    RQ refuses one whose last bearer died without a word; and in a container each process has the same pid.
    """
    return f"{host}.{os.getpid()}.{secrets.token_hex(2)}"


def queue_names(queues: Sequence[str]) -> list[str]:
    """The queues to serve: those given, else `default`."""
    return list(queues) or ["default"]
