"""The spans that hang on `lost_after` leave nobody time to do a run twice, and nothing taken unfound."""

from __future__ import annotations

import pytest

from cronq.runs.timing import Timing


@pytest.mark.parametrize("lost_after_s", [1, 1.5, 2, 3, 5, 6, 12, 24, 30, 31, 60, 300, 3600, 86400])
def test_who_is_at_work_stops_before_others_take_over_and_nothing_is_left(lost_after_s: float) -> None:
    timing = Timing(lost_after_s)

    assert timing.renew_s < timing.alone_s <= timing.dead_s < timing.lost_after_s
    assert timing.start_for_s < timing.missed_s
    assert timing.sweep_s < 5
    assert timing.sweep_s + timing.missed_s + timing.sweep_s < timing.lost_after_s + 5
    assert 0 < timing.renew_s <= 1
    assert timing.renew_s <= timing.heartbeat_s <= 5


@pytest.mark.parametrize("lost_after_s", [3, 5, 6, 12, 24, 30, 31, 60, 300, 3600, 86400])
def test_no_healthy_run_is_judged_by_a_silence_that_it_could_not_break(lost_after_s: float) -> None:
    timing = Timing(lost_after_s)

    assert timing.renew_s + timing.silence_s + timing.renew_s <= timing.lost_after_s
    assert timing.silence_s > timing.sweep_s  # else no beat would ever judge
