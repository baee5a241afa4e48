"""What would become of each tick in a span of time: definitions of modules or of Redis, under a clock of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cronq.app.app import Cronq
from cronq.errors import CronqError
from cronq.runs.scene import Outage as Outage
from cronq.runs.scene import Scene as Scene
from cronq.runs.simulate import Simulation as Simulation
from cronq.runs.simulate import simulate


def simulate_jobs(app: Cronq, modules: Sequence[str], scene: Scene) -> tuple[Simulation, list[CronqError]]:
    """Simulate the jobs that *modules* define, or without any those in Redis; and what is wrong with the others.

    Of a module's jobs Redis is only asked for what modules do not say: the calendars. Stored jobs keep their pauses,
    from when they were set, and their skips. Raises CronqError for more ticks than one simulation takes.
    """
    if modules:
        app.load_jobs(modules)
        definitions = app.definitions()
        specs, problems = [job.spec for job in definitions.known().values()], definitions.problems()
    else:
        jobs, problems = app.read_jobs()
        specs = [job.spec for job in jobs]
        pauses = {job.spec.name: [job.state.pause] for job in jobs if job.state.pause is not None}
        scene = replace(scene, pauses=pauses, skips={job.spec.name: job.state.skips for job in jobs})
    if any(spec.calendars for spec in specs):
        scene = replace(scene, calendars=app.calendars.read_sound())
    return simulate(specs, scene), problems
