"""The model server away, slow, half-open, killed, and answering nonsense."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger.values import Standing
from tests.chaos.case import case
from tests.chaos.world import Failed, World
from tests.fixtures.workers import ROOT

IN_FLIGHT = 64  # what a processor has in its hands unless it is told otherwise
LOAD = range(300)
#: Some 65 pictures a second, so that a load lasts until it has been disturbed.
STEADY = {"base_ms": 40, "per_item_ms": 10, "chaos_embedder": {"base_ms": 10, "per_item_ms": 4}}
#: Longer than all of a world's attempts and retries together: an image that spends its attempts is dead by then.
LONG = 15.0
#: Retries that outlast what spoils answers for at most ``SPOILT_SECONDS``.
PATIENT = {"WEAVLOADER_RETRY_DELAYS": "0.5,1,2,4,8,8"}
SPOILT_SECONDS = 15.0


def once_more(attempted: int) -> int:
    """What a kill may cost: the images in flight are paid for once more."""
    return attempted + IN_FLIGHT


def standings(world: World) -> dict[str, Standing]:
    """Where the attempted images are that are on their way."""
    known = world.ledger.standings(list(world.attempted))
    return {image: found for image, found in known.items() if found.state in ("queued", "waiting", "leased")}


def begin(world: World, numbers: range = LOAD, **speed: Any) -> None:
    """Start the roles and their load."""
    world.control(**(speed or STEADY))
    world.roles()
    world.upload(numbers)


def expect(truth: bool, what: str) -> None:
    """Raise ``Failed`` when it is not true."""
    if not truth:
        raise Failed(what)


def no_attempt_was_spent(world: World) -> None:
    """No image on its way has been charged for an outage, and none has died of it."""
    spent = {image: found for image, found in standings(world).items() if found.attempts}
    expect(not spent, f"{len(spent)} images were charged with attempts, such as {next(iter(spent.items()), None)}")
    causes = world.ledger.letters.causes()
    expect(not causes, f"images died of an outage: {causes}")


def lasts(world: World, seconds: float) -> None:
    """Let what is broken be broken for so long, and see that nothing dies of it meanwhile."""
    end = time.monotonic() + seconds
    world.wait(lambda: time.monotonic() >= end or bool(world.ledger.letters.count()), seconds + 10, "the time's end")
    no_attempt_was_spent(world)


def said(world: World, *words: str) -> bool:
    """Whether a processor's log has all of these words."""
    logs = "".join(process.output() for process in world.processes if process.role == "processor")
    return all(word in logs for word in words)


def descendants(pid: int) -> Iterator[int]:
    """The process's children and theirs."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)


def model_process(world: World, model: str) -> int:
    """The process that runs this model for the server."""
    for pid in descendants(world.triton.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "python_backend_stub" in words[0] and any(model in word for word in words):
            return pid
    raise Failed(f"no process runs {model}")


@case("triton_down_for_a_minute", most_calls=once_more)
def down_for_a_minute(world: World) -> None:
    """Triton is stopped under load and started again a minute later; meanwhile new images come."""
    begin(world)
    world.midway()
    world.triton.stop()
    world.upload(range(len(LOAD), len(LOAD) + 50))
    world.wait(lambda: world.ledger.audit().seen == len(world.attempted), 30, "all images seen")
    lasts(world, 60)
    world.triton.start()


@case("triton_killed", short=True, most_calls=once_more)
def killed(world: World) -> None:
    """Triton is killed with SIGKILL under load, and started again."""
    begin(world, range(200))
    world.midway()
    world.triton.kill()
    world.wait(lambda: said(world, "cause=triton_"), 60, "a processor that noticed")
    world.triton.start()


@case("triton_30_times_slower", WEAVLOADER_MODEL_TIMEOUT="1")
def slow(world: World) -> None:
    """The models are 30 times slower for longer than all retries last, so that all but single requests time out."""
    speed = {"base_ms": 20, "per_item_ms": 3}
    begin(world, range(600), **speed)
    world.midway()
    world.control(**speed, slow=30)
    world.wait(lambda: said(world, "cause=model_slow"), 30, "a timeout")
    lasts(world, LONG)
    world.control(**speed)


@case("triton_stalled", proxied=("triton",), WEAVLOADER_MODEL_TIMEOUT="2")
def stalled(world: World) -> None:
    """Triton's connections stay open, and for a while nothing comes or goes on them."""
    begin(world)
    world.midway()
    world.triton.proxy.mode = "stall"
    lasts(world, LONG)
    world.triton.proxy.mode = "pass"


@case("triton_half_open", proxied=("triton",), WEAVLOADER_MODEL_TIMEOUT="2")
def half_open(world: World) -> None:
    """The connections to Triton are dead and nobody says so, as after a power cut; new ones would be served."""
    begin(world)
    world.midway()
    world.triton.proxy.abandon()


@case("triton_model_process_killed", most_calls=lambda attempted: attempted + 2 * IN_FLIGHT)
def model_process_killed(world: World) -> None:
    """The processes of both models are killed under load, one after the other; Triton goes on calling them READY."""
    world.triton.touched = True
    begin(world)
    for share, model in ((0.2, "chaos_captioner"), (0.6, "chaos_embedder")):
        world.midway(share)
        os.kill(model_process(world, model), signal.SIGKILL)
        world.wait(lambda: said(world, f"process {model}"), 10, "a processor that noticed")  # noqa: B023


def spoilt(world: World, kind: str, evidence: str) -> None:
    """A third of both models' answers are of this kind for half of the load."""
    begin(world)
    world.midway(0.2)
    world.control(**STEADY, **{kind: 0.3})
    world.midway(0.6, SPOILT_SECONDS)
    world.control(**STEADY)
    expect(said(world, evidence), f"no processor said {evidence!r}")


@case("triton_garbage", **PATIENT)
def garbage(world: World) -> None:
    """Three of ten answers are garbage for a while: undecodable, empty or error texts, and vectors of zeros."""
    spoilt(world, "garbage", "that are not UTF-8")


@case("triton_nan", **PATIENT)
def nan(world: World) -> None:
    """Three of ten vectors hold NaN for a while."""
    spoilt(world, "nan", "NaN or infinity")


@case("triton_wrong_shape", **PATIENT)
def wrong_shape(world: World) -> None:
    """Three of ten answers have a wrong shape for a while."""
    spoilt(world, "shape", "of shape [1, 2, 32]")


@case("triton_errors", **PATIENT)
def errors(world: World) -> None:
    """Three of ten requests are answered with an error for a while."""
    spoilt(world, "error", "this model was told to fail")


@case("triton_always_nan", expects_dead={"model_answer": 3})
def always_nan(world: World) -> None:
    """The embedder answers NaN for three pictures, whenever it is asked: these are dead, and no others."""
    chosen = [3, 50, 99]
    begin(world, range(100), nan=chosen)
    world.quiet()
    dead = sorted(world.attempted[letter.task_id] for letter in world.ledger.letters.list())
    expect(dead == chosen, f"dead are the pictures {dead} instead of {chosen}")


@case("triton_hung_by_two_pictures", expects_dead={"poison": 2}, WEAVLOADER_MODEL_TIMEOUT="2")
def hung(world: World) -> None:
    """The captioner hangs at two pictures for twice the time it has and answers nobody: these die, and no others."""
    chosen = [40, 90]
    begin(world, range(120), **STEADY, chaos_captioner={"hang_numbers": chosen, "hang_seconds": 4})
    world.quiet(120)
    dead = sorted(world.attempted[letter.task_id] for letter in world.ledger.letters.list())
    expect(dead == chosen, f"dead are the pictures {dead} instead of {chosen}")


@case("triton_busy", most_calls=lambda attempted: attempted)
def busy(world: World) -> None:
    """The models have work for longer than the health check waits: it says busy, not down, and nothing is disturbed."""
    begin(world, range(IN_FLIGHT + 16), base_ms=1500)
    world.wait(lambda: world.ledger.audit().leased >= IN_FLIGHT, 30, "all hands full")
    status, doctor = printed(world, "status", "doctor")
    world.control()
    part = status["parts"]["triton"]
    expect(part["ok"] and part["detail"].startswith("busy"), f"status says of Triton {part}")
    (check,) = (line for line in doctor["checks"] if line["name"] == "triton canary")
    expect(check["state"] == "ok" and "busy" in check["detail"], f"the doctor says of Triton {check}")


def printed(world: World, *commands: str) -> list[dict[str, Any]]:
    """The JSON that commands of the product print, run at the same time."""
    running = [
        subprocess.Popen(
            [sys.executable, "main.py", command, "--json"],
            cwd=ROOT,
            env=world.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    return [json.loads(process.communicate(timeout=60)[0]) for process in running]
