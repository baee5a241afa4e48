"""What becomes of ticks, without any of them: in a span of time, or on a day that was, by other definitions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from cronq.app.parts import Parts
from cronq.app.rehearsal import rehearse_day
from cronq.app.simulation import simulate_jobs
from cronq.errors import CronqError
from cronq.runs.rehearse import Rehearsal
from cronq.runs.scene import Outage as Outage
from cronq.runs.scene import Scene as Scene
from cronq.runs.simulate import Simulation


class SimulationVerbs(Parts):
    """Verbs of `Cronq` that change nothing. Each also tells what is wrong with definitions that it leaves out."""

    def simulate(self, modules: Sequence[str], scene: Scene) -> tuple[Simulation, list[CronqError]]:
        """What becomes of each tick of *scene*, of the jobs that *modules* define or, without any, of those in Redis.

        Raises CronqError for more ticks than one simulation takes.
        """
        return simulate_jobs(self, modules, scene)

    def rehearse(
        self,
        modules: Sequence[str],
        day: date,
        *,
        tz: str = "UTC",
        outages: Sequence[Outage] = (),
        duration_s: float = 0.0,
    ) -> tuple[Rehearsal, list[CronqError]]:
        """What would have become of each tick of *day* in the zone *tz*, of the same jobs, with its runs and outages.

        *outages* come on top. Runs of a job of which none is known take *duration_s*. Of a day that is not over, as
        much as has passed is rehearsed. Raises ScheduleError.
        """
        return rehearse_day(self, modules, day, tz, outages=outages, duration_s=duration_s)
