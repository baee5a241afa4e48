"""What a worker does to runs, without a process."""

from __future__ import annotations

from cronq.app.app import Cronq
from cronq.runs.run import Ending, Settlement, Start


class Worker:
    """Does what a worker does with the ids of the queue, without a process: *outcomes* by run id, else it succeeds."""

    def __init__(self, app: Cronq) -> None:
        self.app = app
        self.outcomes: dict[str, str] = {}
        self.done: list[str] = []

    def work(self, most: int = 1000) -> None:
        """Execute what stands in the queue, *most* runs of it."""
        for _ in range(most):
            raw = self.app.client.lmove("rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT")
            if raw is None:
                return
            self.execute(raw.decode())

    def execute(self, run_id: str) -> None:
        now_s = self.app.now_s()
        run = self.app.runs.get(run_id)
        started = self.app.runs.start(run, Start("w", "box", 1, f"e{len(self.done)}", 90, now_s))
        assert started.code == "started"
        self.done.append(run_id)
        outcome = self.outcomes.get(run_id, "succeeded")
        ending = Ending(Settlement(outcome, "it did so"), by="worker w", now_s=now_s)
        assert self.app.runs.settle(self.app.runs.get(run_id), ending)
