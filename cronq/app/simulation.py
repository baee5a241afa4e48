"""What would become of each tick in a span of time: definitions of modules or of Redis, under a clock of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cronq.app.app import Cronq
from cronq.errors import CronqError
from cronq.jobs.spec import JobSpec
from cronq.runs.scene import Outage as Outage
from cronq.runs.scene import Scene as Scene
from cronq.runs.simulate import Simulation as Simulation
from cronq.runs.simulate import simulate


def defined_specs(app: Cronq, modules: Sequence[str]) -> tuple[list[JobSpec], list[CronqError]]:
    """The specs of the jobs that *modules* define, as a sync would store them; and what is wrong with the others."""
    app.load_jobs(modules)
    definitions = app.definitions()
    return [job.spec for job in definitions.known().values()], definitions.problems()


def simulate_jobs(app: Cronq, modules: Sequence[str], scene: Scene) -> tuple[Simulation, list[CronqError]]:
    """Simulate the jobs that *modules* define, or without any those in Redis; and what is wrong with the others.

    Of a module's jobs Redis is only asked for what modules do not say: the calendars. Stored jobs keep their pauses,
    from when they were set, and their skips. Raises CronqError for more ticks than one simulation takes.
    """
    if modules:
        specs, problems = defined_specs(app, modules)
    else:
        jobs, problems = app.read_jobs()
        specs = [job.spec for job in jobs]
        pauses = {job.spec.name: [job.state.pause] for job in jobs if job.state.pause is not None}
        scene = replace(scene, pauses=pauses, skips={job.spec.name: job.state.skips for job in jobs})
    return simulate(specs, with_calendars(app, specs, scene)), problems


def with_calendars(app: Cronq, specs: Iterable[JobSpec], scene: Scene) -> Scene:
    """*scene* with the calendars of now, if a job looks at any."""
    if not any(spec.calendars for spec in specs):
        return scene
    return replace(scene, calendars=app.calendars.read_sound())
