"""Brings the jobs of crontabs to Redis: first imports, later ones of changed files, and ghosts.

**Whose job is a line?** A crontab has no names, so a line is known by what it says. It belongs to the stored job of
its file (by `origin`) that has the same user, command and time; else to one with the same user and command, whose
time was edited; else to one with the same user and time and a command much like it, edited; else it is new. So
moving lines about changes nothing, and an edited line keeps its job, its name and its history. A new job is named
after file, program and a hash of file, user and command; where that is taken a number follows.

**Ghosts** are jobs whose line is gone. They stay, and their `origin` says so, until somebody removes them or the
line is back. Only the host that imported a file last makes ghosts of it: two hosts with different files of the
same path must not remove each other's jobs.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from cronq.definitions.changes import Changes
from cronq.definitions.crontab import Crontab, CrontabLine, Fault, options_of
from cronq.errors import ConfigError, CronqError, DefinitionError, JobInUse, SpecTooNew, UnknownJob
from cronq.jobs.graph import in_use
from cronq.jobs.spec import JobSpec, make_spec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob
from cronq.schedule.zone import machine_zone_name

_ORIGIN, _GONE = "crontab:", "gone from crontab:"
#: As alike as this are two commands of which one is an edit of the other.
_ALIKE = 0.6
#: So many comparisons of two commands take seconds.
_MOST_PAIRS = 20_000
#: What cron does: it ends no command, and makes up for nothing. That a second run waits for none is ours.
CRONS_WAY: dict[str, Any] = {"timeout": "1d", "catchup": "skip"}


@dataclass(frozen=True)
class Source:
    """Where a crontab was read."""

    path: str  #: absolute, or `~user` for one that was piped in
    host: str
    user: str  #: whose crontab it is, where it has no user column

    def at(self, number: int) -> str:
        """`host:path:line`, for people."""
        return f"{self.host}:{self.path}:{number}"

    def made(self, job: StoredJob) -> bool:
        """Return True if *job* came from here, and no other host has imported the same path since."""
        return job.source.startswith(f"{self.host}:{self.path}:")


@dataclass
class CrontabReport:
    """What an import did, or would do, by name of job; and the lines that it could not carry over."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_ghost(job: StoredJob) -> bool:
    """Return True if *job* came from a crontab that no longer has its line."""
    return job.origin.startswith(_GONE)


class CrontabJobs:
    """Stores the jobs of crontabs."""

    def __init__(self, jobs: JobStore, changes: Changes) -> None:
        self.jobs = jobs
        self.changes = changes

    def bring(
        self, crontab: Crontab, source: Source, *, tz: str, options: Mapping[str, Any], prune: bool, dry: bool, by: str
    ) -> CrontabReport:
        """Store the jobs of *crontab*; *prune* removes those whose line is gone, *dry* changes nothing.

        *options* are given to each job besides what its line says. A line that no job can be made of is reported as a
        fault. Raises SpecTooNew, before anything is changed, when a newer cronq stored a job of this file.
        """
        report = CrontabReport(faults=list(crontab.faults), notes=list(crontab.notes))
        stored = self.jobs.find(self.jobs.names())
        for job in stored.values():
            if isinstance(job, SpecTooNew) and job.origin in _origins(source):
                raise job  # its line would be taken for a new one, and run twice
        own = self._own(stored, source)
        names = names_for(crontab.lines, {name: job.spec for name, job in own.items()}, stored, source)
        specs: dict[str, tuple[JobSpec, str]] = {}
        for line, name in zip(crontab.lines, names, strict=True):
            try:
                told = options_of(line, user=source.user, tz=tz)
                specs[name] = make_spec(name, **{**CRONS_WAY, **options, **told}), source.at(line.number)
            except DefinitionError as error:
                report.faults.append(Fault(line.number, line.text, f"{error.field}: {error.problem}"))
        report.faults.sort()
        if not dry and specs:
            self.jobs.open_epoch()
        for name, (spec, place) in specs.items():
            what = _foreseen(own.get(name), spec)
            if not dry:
                what = self.changes.save(spec, source=place, origin=_ORIGIN + source.path)
            getattr(report, what).append(name)
        gone = [name for name in own if name not in names and source.made(own[name])]
        self._retire(report, gone, own, prune, dry, by)
        return report

    def ghosts(self) -> list[StoredJob]:
        """Stored jobs whose line was gone when their crontab was imported last."""
        found = self.jobs.find(self.jobs.names()).values()
        return [job for job in found if isinstance(job, StoredJob) and is_ghost(job)]

    def _own(self, stored: Mapping[str, StoredJob | CronqError], source: Source) -> dict[str, StoredJob]:
        origins = _origins(source)
        return {name: job for name, job in stored.items() if isinstance(job, StoredJob) and job.origin in origins}

    def _retire(
        self, report: CrontabReport, gone: list[str], own: Mapping[str, StoredJob], prune: bool, dry: bool, by: str
    ) -> None:
        """Make ghosts of the jobs whose lines are *gone*, or remove them.

        None is removed while some lines cannot be read: a job's line may be among those.
        """
        if prune and gone and not all(fault.never for fault in report.faults):
            report.notes.append("nothing is removed while there are lines that cannot be read: mend them first")
            prune = False
        for name in gone:
            job = own[name]
            children = list(self.jobs.children_of([name])[name]) if prune else []
            if children:
                report.notes.append(f"{in_use(name, children)}; it stays")
            is_pruned = prune and not children
            (report.removed if is_pruned else report.ghosts).append(name)
            if dry or (is_ghost(job) and not is_pruned):
                continue
            if is_pruned:
                self._remove(name, by)
            else:
                self.changes.save(job.spec, source=job.source, origin=_GONE + job.origin.removeprefix(_ORIGIN))

    def _remove(self, name: str, by: str) -> None:
        try:
            self.changes.remove(name, by=by)
        except (UnknownJob, JobInUse):  # somebody else was first
            pass


def _origins(source: Source) -> tuple[str, str]:
    return _ORIGIN + source.path, _GONE + source.path


def zone_for(crontab: Crontab, tz: str | None) -> str:
    """The zone of lines without CRON_TZ: *tz*, else the machine's, whatever TZ this process has: cron's has another.

    Raises ConfigError when the machine's zone has no name.
    """
    zone = tz if tz is not None else machine_zone_name()
    if zone is None and any(line.tz is None for line in crontab.lines):
        raise ConfigError("the time zone of this machine cannot be told from /etc/localtime or /etc/timezone; give tz")
    return zone or "UTC"


def _foreseen(known: StoredJob | None, spec: JobSpec) -> str:
    if known is None:
        return "created"
    return "same" if known.spec == spec else "changed"


def names_for(lines: list[CrontabLine], own: Mapping[str, JobSpec], taken: Iterable[str], source: Source) -> list[str]:
    """The job of each of *lines*: one of the file's *own*, or a fresh name that is not *taken*."""
    free = dict(sorted(own.items()))
    names: dict[int, str] = {}

    def match(of_line: Callable[[CrontabLine], Hashable], of_job: Callable[[JobSpec], Hashable]) -> None:
        """Give each line the first job that has the same key; the order of the lines decides between equals."""
        jobs: dict[Hashable, list[str]] = {}
        for name in reversed(free):
            jobs.setdefault(of_job(free[name]), []).append(name)
        for at, line in enumerate(lines):
            if at not in names and (found := jobs.get(of_line(line))):
                names[at] = found.pop()
                del free[names[at]]

    def work(line: CrontabLine) -> tuple[Hashable, ...]:
        return line.user or source.user, line.command, line.stdin

    match(
        lambda line: (*work(line), line.cron, frozenset(line.variables.items())),
        lambda spec: (*_work(spec), spec.cron, frozenset(spec.env.items())),
    )
    match(lambda line: (*work(line), line.cron), lambda spec: (*_work(spec), spec.cron))
    match(work, _work)
    names |= _most_alike({at: line for at, line in enumerate(lines) if at not in names}, free, source.user)
    used = {*taken, *names.values()}
    for at, line in enumerate(lines):
        if at not in names:
            names[at] = _fresh_name(line, source, used)
            used.add(names[at])
    return [names[at] for at in range(len(lines))]


def _work(spec: JobSpec) -> tuple[Hashable, ...]:
    """User, command and input of a job, as a line has them."""
    return spec.run_as, (spec.command or ("",))[0], spec.stdin


def _most_alike(lines: Mapping[int, CrontabLine], free: Mapping[str, JobSpec], user: str) -> dict[int, str]:
    """Lines whose command was edited, with their jobs: those of the same user at the same time, the most alike first.

    Of more than `_MOST_PAIRS` such pairs none is looked at: a file edited from end to end is another file.
    """
    jobs: dict[Hashable, list[str]] = {}
    for name, spec in free.items():
        if spec.command is not None:
            jobs.setdefault((spec.run_as, spec.cron), []).append(name)
    keys = {at: (line.user or user, line.cron) for at, line in lines.items()}
    if sum(len(jobs.get(key, ())) for key in keys.values()) > _MOST_PAIRS:
        return {}
    pairs = [
        (-_likeness(lines[at].command, (free[name].command or ("",))[0]), at, name)
        for at, key in keys.items() for name in jobs.get(key, ())
    ]  # fmt: skip
    found: dict[int, str] = {}
    given: set[str] = set()
    for _, at, name in sorted(pair for pair in pairs if pair[0] < 0):
        if at not in found and name not in given:
            found[at] = name
            given.add(name)
    return found


def _likeness(one: str, other: str) -> float:
    """How alike two commands are, 0 when not enough."""
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if matcher.real_quick_ratio() < _ALIKE or matcher.quick_ratio() < _ALIKE:
        return 0
    ratio = matcher.ratio()
    return ratio if ratio >= _ALIKE else 0


def _fresh_name(line: CrontabLine, source: Source, used: set[str]) -> str:
    what = "\0".join([source.path, line.user or source.user, line.command, line.stdin or ""])
    digest = hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    file = source.path.rpartition("/")[2]
    words = [_slug(file), _slug(_program(line.command)), digest]
    base = "-".join(word for at, word in enumerate(words) if word and word not in words[:at])
    count = 1
    while (name := base if count == 1 else f"{base}-{count}") in used:
        count += 1
    return name


def _program(command: str) -> str:
    """The word that says most about a command: the last path of a program in it, else its first word."""
    paths = re.findall(r"(?<![\w>])/(?!dev/|run/|proc/|tmp/)[\w./+-]*\w", command)
    return os.path.basename(paths[-1]) if paths else next(iter(re.findall(r"[A-Za-z][\w.+-]*", command)), "")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:40]
