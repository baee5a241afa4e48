"""How soon what vanished is missed, and how often those at work let themselves be heard: all from `lost_after`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """The spans that hang on `lost_after`, in seconds.

    Nobody does a run twice, because who is at work stops before others may take over:

        renew_s < alone_s <= dead_s < lost_after_s    a guardian that is cut off ends its child first
        start_for_s < missed_s                        nor does one start an id that was given back meanwhile

    No healthy run is taken for lost, because a beat does not judge after a silence of Redis in which no guardian could
    be heard either; from `lost_after` = 3 s on:

        renew_s + silence_s + renew_s <= lost_after_s

    And nothing taken is left: a beat finds it within `lost_after` and 5 s, whenever its worker vanished:

        sweep_s < 5
        sweep_s + missed_s + sweep_s < lost_after_s + 5
    """

    lost_after_s: float  #: a run that was not heard of for so long is lost

    # Those at work

    @property
    def renew_s(self) -> float:
        """How often a guardian says that its run is alive, and looks whether it is to stop."""
        return min(1.0, self.lost_after_s / 6)

    @property
    def heartbeat_s(self) -> float:
        """How often a worker says that it is alive itself."""
        return min(5.0, self.lost_after_s / 3)

    @property
    def start_for_s(self) -> float:
        """How long a guardian tells Redis again that a run starts, while no answer comes."""
        return 0.5 * self.lost_after_s

    @property
    def alone_s(self) -> float:
        """How long Redis may not have heard of a run that others may run again before its child is told to end."""
        return 0.9 * self.lost_after_s

    @property
    def dead_s(self) -> float:
        """The same, before its child is dead: the watchdog sees to it."""
        return self.lost_after_s - MARGIN_S

    # Those that miss them

    @property
    def sweep_s(self) -> float:
        """How often a beat sweeps."""
        return max(0.5, min(4.0, self.lost_after_s / 6))

    @property
    def silence_s(self) -> float:
        """The longest time between two answers of Redis after which a beat may still judge by what it heard before."""
        return self.sweep_s + max(0.5, self.lost_after_s / 2)

    @property
    def missed_s(self) -> float:
        """How long an id must have been popped and not started to be unpopped, or in no list to be repushed."""
        return 0.8 * self.lost_after_s

    @property
    def vanished_s(self) -> float:
        """How long a guarded run must not have been heard of for the next of its name to settle it as lost.

        Unlike a beat that one cannot know whether Redis was away meanwhile; if it is alive, its own end counts.
        """
        return 2 * self.lost_after_s


#: Life of RQ's own records of a running job in seconds, which each renewal makes anew.
RQ_LEASE_S = 90
#: A child is dead this long before its run, or its lock, can be somebody else's; the watchdog begins still earlier.
MARGIN_S = 0.1
