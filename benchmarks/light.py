"""The light models end to end, beside what the same Triton gives a load generator that does nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.pictures import write_round
from benchmarks.product import environment, resident_megabytes, up, wait_until
from benchmarks.table import Row, row
from benchmarks.world import steady_rate
from commands.replaying import Landing, LiveReplay
from inference import TritonConnection, open_captioner, open_embedder
from inference.calibration import ceiling, embeds_text
from inference.images import prepare
from ledger import Ledger
from settings import Settings
from sources.replay import load_folder
from stack import running_states

COMMAND = "python -m benchmarks light"
#: Images in flight that are tried before the rounds begin: Triton alone is measured with those that give most.
IN_FLIGHT = (8, 16, 32, 64)
#: Length of a measurement of Triton alone.
CEILING_SECONDS = 5.0


def end_to_end(settings: Settings, folder: Path, name: str) -> float:
    """Images per second from the stream to the store."""
    pictures = load_folder(folder, vsn="B001")
    with closing(Ledger(settings.jobs)) as ledger:
        landing = Landing(ledger, [picture.id for picture in pictures])
        times = [(time.perf_counter(), 0)]

        def done() -> bool:
            times.append((time.perf_counter(), landing.look()))
            return times[-1][1] == landing.total

        with LiveReplay(name, pictures, 0.0, ledger):
            wait_until(done)
    if landing.states["landed"] != landing.total:
        raise RuntimeError(f"not all pictures landed: {landing.states}")
    return steady_rate(times, landing.total)


async def triton_alone(settings: Settings, files: Sequence[Path], in_flight: int) -> float:
    """Images per second of the pipeline's own calls (caption, image and text embedding), and nothing beside them."""
    section, connection = settings.triton, TritonConnection(settings.triton)
    models = open_captioner(section, connection), open_embedder(section, connection)
    ready = [prepare(file.read_bytes(), settings.fetch) for file in files]
    try:
        found = await ceiling(*models, ready, in_flight, CEILING_SECONDS, text=embeds_text(section))
    finally:
        await connection.close()
    return found.images_per_second


def run(work: Path, rounds: int, count: int) -> list[Row]:
    """Alternating rounds on one running stack, then the memory of each part."""
    reached, possible = [], []
    in_flight = IN_FLIGHT[-1]
    with up(environment(work / "data", WEAVLOADER_POLL_BUSY="0.2", WEAVLOADER_POLL_IDLE="0.5")) as settings:
        for number in range(rounds + 1):  # the first warms up
            pair = (
                write_round(work / f"a{number}", 2 * number, count),
                write_round(work / f"b{number}", 2 * number + 1, count),
            )
            if not number:
                asyncio.run(triton_alone(settings, pair[0], in_flight))  # the models' first calls are slow
                tried = {count: asyncio.run(triton_alone(settings, pair[0], count)) for count in IN_FLIGHT}
                in_flight = max(tried, key=tried.__getitem__)
            if number % 2:
                rate = end_to_end(settings, work / f"b{number}", f"bench{number}")
            top = asyncio.run(triton_alone(settings, pair[0], in_flight))
            if not number % 2:
                rate = end_to_end(settings, work / f"b{number}", f"bench{number}")
            if number:
                possible.append(top)
                reached.append(rate)
        there = running_states(settings.paths.data)
        memory = {name: resident_megabytes(state.pid) for name, state in there.items() if state.pid}
    ratios = [one / other for one, other in zip(reached, possible, strict=True)]
    return [
        row("light models: images/s end to end", reached, COMMAND),
        row("light models: images/s of Triton alone", possible, COMMAND),
        row("light models: end to end / Triton alone", ratios, COMMAND, floor=0.85),
        *(Row(f"memory of {name}, MB", value, None, COMMAND) for name, value in sorted(memory.items())),
    ]
