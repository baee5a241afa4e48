"""What would become of each tick in a span of time: definitions of modules or of Redis, under a clock of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from redis.exceptions import RedisError

from cronq.app.parts import Parts
from cronq.errors import CronqError
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import StoredJob
from cronq.runs.scene import Counted, Scene
from cronq.runs.simulate import Simulation, simulate


class Jobs(NamedTuple):
    """The jobs to simulate, stored ones outside of them that they wait for, and what is wrong with others."""

    specs: list[JobSpec]
    ancestors: list[JobSpec]
    problems: list[CronqError]


def defined_jobs(parts: Parts, modules: Sequence[str]) -> Jobs:
    """The jobs that *modules* define, as a sync would store them. Redis is only asked for parents outside of them."""
    parts.registry.load(modules)
    definitions = parts.definitions()
    known, problems = definitions.known(), definitions.problems()
    specs = {name: job.spec for name, job in known.items()}
    ancestors: dict[str, JobSpec] = {}
    strange = sorted({parent for spec in specs.values() for parent in spec.parents if parent not in specs})
    if strange:
        with _needed_for("parent", strange):
            judgement = definitions.judge()
            problems += judgement.problems
            specs = {name: specs[name] for name in judgement.accepted}
            ancestors = _ancestors(parts, specs)
    return Jobs(list(specs.values()), list(ancestors.values()), problems)


def _ancestors(parts: Parts, specs: Mapping[str, JobSpec]) -> dict[str, JobSpec]:
    """The stored jobs that *specs* wait for, and those that these wait for; a round trip a generation."""
    found: dict[str, JobSpec] = {}
    looked_for: set[str] = set()
    wanted = {parent for spec in specs.values() for parent in spec.parents}
    while todo := wanted - specs.keys() - looked_for:
        looked_for |= todo
        stored = {name: job.spec for name, job in parts.jobs.find(todo).items() if isinstance(job, StoredJob)}
        found |= stored
        wanted = {parent for spec in stored.values() for parent in spec.parents}
    return found


def simulate_jobs(parts: Parts, modules: Sequence[str], scene: Scene) -> tuple[Simulation, list[CronqError]]:
    """Simulate the jobs that *modules* define, or without any those in Redis; and what is wrong with the others.

    Of a module's jobs Redis is only asked for what modules do not say: calendars, and parents outside of them. Stored
    jobs keep their pauses, from when they were set, and their skips. Raises CronqError for more ticks than one
    simulation takes.
    """
    if modules:
        jobs = defined_jobs(parts, modules)
    else:
        stored, problems = parts.read_jobs()
        jobs = Jobs([job.spec for job in stored], [], problems)
        pauses = {job.spec.name: [job.state.pause] for job in stored if job.state.pause is not None}
        skips = {job.spec.name: job.state.skips for job in stored}
        scene = replace(scene, pauses=pauses, skips=skips, counted=counted(stored))
    scene = with_calendars(parts, [*jobs.specs, *jobs.ancestors], scene)
    return simulate(jobs.specs, scene, jobs.ancestors), jobs.problems


def counted(jobs: Iterable[StoredJob]) -> dict[str, Counted]:
    """How many ticks each of these jobs has had, of those that have only so many."""
    limited = (job for job in jobs if job.spec.repeat is not None and job.state.mark is not None)
    return {job.spec.name: Counted(job.state.mark or 0, job.state.ticks) for job in limited}


def with_calendars(parts: Parts, specs: Iterable[JobSpec], scene: Scene) -> Scene:
    """*scene* with the calendars of now, if a job looks at any."""
    named = sorted({name for spec in specs for name in spec.calendars})
    if not named:
        return scene
    with _needed_for("calendar", named):
        return replace(scene, calendars=parts.calendars.read_sound())


@contextmanager
def _needed_for(what: str, names: Sequence[str]) -> Iterator[None]:
    """A block that asks Redis, which is needed for these alone: an outage says so."""
    try:
        yield
    except (RedisError, OSError) as error:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        error.add_note(f"it is asked for the {what} {names[0]!r}{more}")
        raise
