"""One image in flight in this process."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from job_system.ports import Settled
from ledger import Lease
from records import Outputs


@dataclass(eq=False)
class Job:
    """One image in flight. ``ended`` says why it was stopped from outside: ``lost`` lease or ``handed_back``.

    One that is made again does not ``ask_source`` for the original while that refuses the login. It is ``settled`` on
    the version and the models that were in use when its work began.
    """

    lease: Lease
    task_id: str
    outputs: Outputs = field(default_factory=Outputs)
    future: Future[None] | None = None
    ended: str = ""
    ask_source: bool = True
    stages: dict[str, float] = field(default_factory=dict)
    settled: Settled | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def told(self) -> dict[str, Any]:
        """What the line of the attempt's outcome says of it: seconds in all, and of each stage."""
        took = round(time.monotonic() - self.began, 3)
        return {
            "image": self.lease.id,
            "task_id": self.task_id,
            "attempt": self.lease.attempt,
            "took": took,
            **({"redo": True} if self.lease.redo else {}),
            **dict(self.stages),
        }

    @property
    def done(self) -> bool:
        """Whether its work has ended: what is left is to tell the ledger, which says whether the lease still held."""
        return self.future is not None and self.future.done()

    def stop(self, why: str) -> None:
        """Cancel its work; the first reason counts."""
        self.ended = self.ended or why
        if self.future is not None:
            self.future.cancel()
