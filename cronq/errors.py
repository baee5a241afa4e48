"""Every error cronq raises on purpose.

    CronqError
    ├── ConfigError             settings, or a Redis that cannot be trusted       exit 78
    │   └── RedisUnfit          reachable, but evicting, too old, a replica, or with the data of a newer cronq
    ├── DefinitionError         a job that cannot be registered                   exit 78
    │   ├── ScheduleError       its cron expression, interval, zone or rule
    │   └── UnknownParent       no job of the name that it gives in `depends_on` or `after`
    ├── SpecTooNew              a job that a newer release of cronq stored        exit 78
    ├── BadValue                what stands in Redis, or came from a child, is not what it should be   exit 1
    ├── UnknownJob              no job of that name                               exit 2
    ├── UnknownRun              no run of that id                                 exit 2
    ├── UnknownCalendar         no calendar of that name                          exit 2
    ├── SpanRefused             past ticks that cannot be run as they were asked for   exit 2
    ├── RedisUnavailable        no answer from Redis                              exit 69
    ├── Conflict                somebody else changed the job meanwhile           exit 75
    ├── CalendarInUse           jobs name the calendar that is to be removed      exit 75
    ├── JobInUse                jobs name the job that is to be removed           exit 75
    ├── LockBusy                the lock is held, and waiting was not asked for   exit 75
    ├── KeyBroken               a key of Redis has a wrong type                   exit 1
    ├── LockLost                the lock cannot be proved to be held any longer   exit 1
    ├── RunRefused              a worker must not execute this run                exit 1
    └── WatchdogDied            the process between a guardian and its work died  exit 1

A message is one line: what is wrong, where, and what to do about it.
"""

from __future__ import annotations


class CronqError(Exception):
    """Root of all errors raised on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(CronqError):
    """A setting is missing, malformed or contradicts another."""

    exit_code = 78


class RedisUnfit(ConfigError):
    """Redis answers, but its configuration would lose or double runs, or what it holds is of a newer cronq."""


class DefinitionError(CronqError):
    """A job definition cannot be accepted.

    The text is `job 'NAME' (FILE:LINE): FIELD: PROBLEM; REMEDY`, with the parts that are known.
    """

    exit_code = 78

    def __init__(
        self, problem: str, *, job: str | None = None, place: str | None = None, field: str | None = None
    ) -> None:
        self.problem = problem
        self.job = job
        self.place = place
        self.field = field
        super().__init__(problem)

    def at(self, *, job: str | None = None, place: str | None = None) -> DefinitionError:
        """The same error with the job and the place filled in where they were unknown."""
        self.job = self.job if self.job is not None else job
        self.place = self.place if self.place is not None else place
        return self

    def __str__(self) -> str:
        head = ""
        if self.job is not None:
            head = f"job {self.job!r}"
        if self.place is not None:
            head = f"{head} ({self.place})" if head else self.place
        middle = f"{self.field}: " if self.field else ""
        return f"{head}: {middle}{self.problem}" if head else f"{middle}{self.problem}"


class ScheduleError(DefinitionError):
    """A cron expression, interval, time of day, zone or DST rule that means nothing."""


class UnknownParent(DefinitionError):
    """No job of the name that a job gives in `depends_on` or `after` is stored, or would be with it."""


class SpecTooNew(CronqError):
    """A newer cronq stored the job, with something that this version does not know: this one leaves it alone.

    Not damage. While a release is being rolled out, processes of the new one look after the job.
    """

    exit_code = 78

    def __init__(self, job: str, detail: str) -> None:
        self.job = job
        self.origin = ""  #: where the job came from, as far as that is known
        super().__init__(
            f"job {job!r}: a newer cronq stored it ({detail}), so this one leaves it alone; upgrade this one, "
            f"or `cronq rm {job}` and store it again"
        )


class BadValue(CronqError):
    """A value that was read cannot be what it should be: damaged, or written by somebody else.

    The text says what is wrong; who reads says which key.
    """


class UnknownJob(CronqError):
    """No job of that name is stored."""

    exit_code = 2


class UnknownRun(CronqError):
    """No run of that id is in the ledger."""

    exit_code = 2


class UnknownGroup(CronqError):
    """No group of that name is stored."""

    exit_code = 78


class UnknownCalendar(CronqError):
    """No calendar of that name is stored."""

    exit_code = 2


class SpanRefused(CronqError):
    """Past ticks cannot be run as they were asked for: no span of time, ticks to come, more than the job keeps."""

    exit_code = 2


class RedisUnavailable(CronqError):
    """Redis did not answer."""

    exit_code = 69


class Conflict(CronqError):
    """The job was changed by somebody else while this change was being made."""

    exit_code = 75


class CalendarInUse(CronqError):
    """Jobs name the calendar in `only` or `except_`."""

    exit_code = 75


class JobInUse(CronqError):
    """Jobs name the job in `depends_on` or `after`."""

    exit_code = 75


class LockBusy(CronqError):
    """Somebody else holds the lock."""

    exit_code = 75


class KeyBroken(CronqError):
    """A key is not of the type that it must have: damaged, or written by somebody else. It does not pass by itself."""

    def __init__(self, key: str, kind: str) -> None:
        self.key = key
        self.kind = kind
        super().__init__(f"the key {key} is not a {kind}; see what has written there, then delete or rename it")


class LockLost(CronqError):
    """The lock can no longer be proved to be held: stop what it protects."""


class RunRefused(CronqError):
    """This process must not execute this run; the message says which one may."""


class WatchdogDied(CronqError):
    """The process between the guardian and the work is gone or does not answer; start another."""
