"""What faces ask about calendars: setting, reading and removing them, and which jobs look at each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cronq.app.parts import Parts
from cronq.app.upcoming import UpcomingTick, upcoming_tick, upcoming_ticks
from cronq.definitions.ics import dates_of_ics
from cronq.errors import CalendarInUse, CronqError, DefinitionError, UnknownCalendar
from cronq.jobs.calendar import NO_CALENDARS, Calendar, Calendars, make_calendar
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import StoredJob

#: Jobs that a refusal names.
_MOST_NAMED = 5


class CalendarVerbs(Parts):
    """Verbs of `Cronq` about calendars."""

    def set_calendar(
        self,
        name: str,
        *,
        dates: Iterable[str] = (),
        weekly: Iterable[str] = (),
        ics: bytes | None = None,
        tz: str | None = None,
        note: str = "",
    ) -> Calendar:
        """Store a calendar, in place of one of that name; beats heed it within a second or two.

        *dates* are `2026-12-25` or `2026-12-26..2026-12-31`, *weekly* `sat,sun` or `mon-fri 22:00-06:00`; *tz* is its
        zone, by default that of each job. *ics* is the text of an .ics file, whose events of the next five years become
        dates. Raises DefinitionError, and ConfigError without the libraries that read such files.
        """
        if ics is not None:
            make_calendar(name, ["1970-01-01"], tz=tz)  # what is wrong with name or zone comes first
            try:
                dates = [*dates, *dates_of_ics(ics, self.now_s(), tz)]
            except DefinitionError as error:
                raise DefinitionError(f"calendar {name!r}: {error.problem}") from None
        made = make_calendar(name, dates, weekly, tz, note)
        return self.calendars.set(made, by=self.who, now_s=self.now_s())

    def read_calendars(self) -> tuple[list[Calendar], list[CronqError]]:
        """All calendars that can be read, by name; and what is wrong with the others."""
        found = self.calendars.read().by_name
        damaged = [
            DefinitionError(f"the calendar {name!r} is damaged; set it again")
            for name, calendar in found.items()
            if calendar is None
        ]
        return [calendar for calendar in found.values() if calendar is not None], list(damaged)

    def read_calendar(self, name: str) -> Calendar:
        """One calendar. Raises UnknownCalendar, and DefinitionError for a damaged one."""
        found = self.calendars.read().by_name
        if name not in found:
            raise UnknownCalendar(f"there is no calendar {name!r}; see `cronq calendar list`")
        calendar = found[name]
        if calendar is None:
            raise DefinitionError(f"the calendar {name!r} is damaged; set it again")
        return calendar

    def jobs_by_calendar(self) -> dict[str, list[str]]:
        """For each calendar that stored jobs name, there or not, the names of these jobs, sorted."""
        found: dict[str, list[str]] = {}
        for job in self.jobs.find(self.jobs.names()).values():
            if isinstance(job, StoredJob):
                for calendar in job.spec.calendars:
                    found.setdefault(calendar, []).append(job.spec.name)
        return found

    def calendars_of(self, jobs: Iterable[StoredJob]) -> Calendars:
        """The calendars, if one of *jobs* names any; one round trip, if any."""
        return self.calendars.read_sound() if any(job.spec.calendars for job in jobs) else NO_CALENDARS

    def upcoming(self, jobs: Sequence[StoredJob], now_s: float, count: int = 1) -> list[UpcomingTick]:
        """The next *count* ticks of each of *jobs*, the earliest first, and which of them will only be recorded."""
        return upcoming_ticks(jobs, now_s, count, self.calendars_of(jobs))

    def exclusions(self, jobs: Sequence[StoredJob]) -> dict[str, str]:
        """Of the *jobs* whose next tick will only be recorded: why."""
        calendars = self.calendars_of(jobs)
        found = [upcoming_tick(job.next_tick, job, calendars) for job in jobs if job.next_tick is not None]
        return {each.job.spec.name: each.excluded for each in found if each.excluded is not None}

    def excluded_ticks(
        self, ticks: Iterable[int], tz: str, *, only: Sequence[str] = (), except_: Sequence[str] = ()
    ) -> dict[int, str]:
        """Of *ticks* those that a job of zone *tz* with these calendars would not run, and why.

        Raises UnknownCalendar.
        """
        calendars = self.calendars.read()
        for name in calendars.missing([*only, *except_]):
            raise UnknownCalendar(f"there is no calendar {name!r}; see `cronq calendar list`")
        found = ((tick, calendars.exclusion(only, except_, tick, tz)) for tick in ticks)
        return {tick: reason for tick, reason in found if reason is not None}

    def remove_calendar(self, name: str, *, force: bool = False) -> list[str]:
        """Remove a calendar. Returns the jobs that still name it.

        Raises UnknownCalendar, and CalendarInUse when there are such jobs, unless *force* is given.
        """
        users = self.jobs_by_calendar().get(name, [])
        if users and not force:
            if name not in self.calendars.read().by_name:
                raise UnknownCalendar(f"there is no calendar {name!r}; see `cronq calendar list`")
            more = f" and {len(users) - _MOST_NAMED} more" if len(users) > _MOST_NAMED else ""
            named = ", ".join(users[:_MOST_NAMED]) + more
            raise CalendarInUse(f"the calendar {name!r} is used by {named}; change them first, or give --force")
        self.calendars.remove(name)
        return users

    def require_calendars(self, spec: JobSpec) -> None:
        """Raise DefinitionError unless there is each calendar that *spec* names; no round trip when it names none."""
        for problem in self._calendar_problems([spec]):
            raise problem

    def calendar_problems_of_definitions(self) -> list[DefinitionError]:
        """What is wrong with the calendars that the jobs of `registry` name, at most one line a job."""
        defined = self.registry.definitions
        found = self._calendar_problems([definition.spec for definition in defined.values()])
        return [problem.at(place=defined[str(problem.job)].place) for problem in found]

    def _calendar_problems(self, specs: Sequence[JobSpec]) -> list[DefinitionError]:
        """What is wrong with the calendars that *specs* name, at most one line a job; one round trip, if any."""
        if not any(spec.calendars for spec in specs):
            return []
        known = self.calendars.read_sound()
        problems = []
        for spec in specs:
            missing = known.missing(spec.calendars)
            if missing:
                problem = f"there is no calendar {missing[0]!r}; make it with `cronq calendar set {missing[0]} ...`"
                field = "only" if missing[0] in spec.only else "except_"
                problems.append(DefinitionError(problem, job=spec.name, field=field))
        return problems
