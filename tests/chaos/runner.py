"""Runs cases one after another, and judges what each has left behind."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.case import Case
from tests.chaos.checker import COUNTS, NEVER, Tally, check
from tests.chaos.servers import SharedServers
from tests.chaos.world import World

#: Last lines of a role's output that a failure shows.
TAIL = 15
#: Single findings of the checker that it shows.
FINDINGS = 10
#: Where an image may be in the end.
ENDS = ("landed", "dead", "skipped", "forgotten")


@dataclass
class Result:
    """One case's line. ``why`` are the reasons for which it is not ok."""

    case: str
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    note: str = ""
    why: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the case passed."""
        return not self.why

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of its line, by name."""
        return {name: self.tally[name] for name in COUNTS}

    def to_json(self) -> dict[str, Any]:
        """The object of ``results/latest.json``."""
        told = {"case": self.case, **self.counts, "ok": self.ok, "seconds": round(self.seconds, 1), "note": self.note}
        return told | ({"why": self.why} if self.why else {})


def run_case(case: Case, folder: Path, shared: SharedServers, say: Callable[[str], None] = print) -> Result:
    """One case from its world's beginning to its end. A failure is told with the tail of the roles' logs."""
    result = Result(case.name)
    began = time.monotonic()
    folder.mkdir(parents=True)
    if case.root and os.geteuid() != 0:
        result.why.append("this case needs root: run it as root (it mounts a file system of its own)")
        return result
    try:
        shared.mend()
        with World(case, folder, shared) as world:
            try:
                case.run(world)
                if world.tally is None:
                    world.quiet(case.quiet)
                _judge(world, result)
            # Whatever ends a case ends that case alone; the others are run.
            except Exception as error:  # noqa: BLE001
                result.tally = Tally(Counter(attempted=len(world.attempted)))
                result.why.append(_text(error))
            result.note = world.note
            if not result.ok:
                _tell(world, result, say)
    except Exception as error:  # noqa: BLE001
        result.why.append(_text(error))
    result.seconds = time.monotonic() - began
    return result


def _judge(world: World, result: Result) -> None:
    tally = result.tally = world.tally or check(world)
    result.why += [f"{name} is {tally[name]}, not 0" for name in NEVER if tally[name]]
    if tally.difference:
        result.why.append(f"difference is {tally.difference}, not 0")
    result.why += tally.findings[:FINDINGS]
    expected = world.expects_dead
    found = dict(tally.by_cause) if isinstance(expected, Mapping) else tally["dead"]
    if found != (dict(expected) if isinstance(expected, Mapping) else expected):
        result.why.append(f"dead is {dict(tally.by_cause)}, not {expected}")
    for name in ("skipped", "forgotten"):
        if tally[name] != (wanted := getattr(world, f"expects_{name}")):
            result.why.append(f"{name} is {tally[name]}, not {wanted}")
    if tally["attempted"] != sum(tally[name] for name in ENDS):
        result.why.append(f"attempted is not {' + '.join(ENDS)}")
    if world.most_calls is not None and tally["model_calls"] > (most := world.most_calls(tally["attempted"])):
        result.why.append(f"the captioner was asked {tally['model_calls']} times, more than {most}")


def _tell(world: World, result: Result, say: Callable[[str], None]) -> None:
    for why in result.why:
        say(f"{result.case}: {why}")
    for process in world.processes:
        lines = process.output().splitlines()[-TAIL:]
        say(f"--- {process.role} {process.pid} ({'lives' if process.running else process.process.returncode})")
        say("\n".join(lines))


def _text(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {error}{where}"
