"""Whether the role of this process gets on: its own loop says so, and for how long it may now be silent.

A thread beside the loop would go on saying that all is well after the loop got stuck, so only the loop calls ``beat``.
What asks is the health address of a role with a container of its own, by which the container is started again.
"""

from __future__ import annotations

import math
import time

#: Seconds that a start may take until the loop runs, and that a loop may be late: requests to Redis wait so long.
START_SECONDS = 180.0
SLACK_SECONDS = 120.0
#: Seconds between two signs of a worker's loop.
EVERY_SECONDS = 5.0

_due = math.inf  # a role that says nothing, as a scheduler while another one acts, is never late


def beat(silent: float = EVERY_SECONDS) -> None:
    """The loop runs, and says so again within that many seconds and the slack."""
    global _due
    _due = time.monotonic() + silent + SLACK_SECONDS


def late() -> float:
    """Seconds by which the loop is overdue, 0 while it is not."""
    return max(0.0, time.monotonic() - _due)
