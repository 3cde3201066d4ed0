"""How long an upload takes from the stream to being found by a search, with nothing else to do.

The stack as `up` starts it, with the light models and a short poll interval; pictures are released one by one, at
moments that are not in step with the polls. The search API is asked for the newest pictures as its users ask, again and
again, until it gives the released one. An upload's moment is the capture time that the stream itself tells.
"""

from __future__ import annotations

import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.pictures import write_round
from benchmarks.product import environment, up, wait_until
from benchmarks.table import Row, row, spread
from commands.replaying import LiveReplay
from ledger import Ledger
from searching import parse_moment
from settings import Settings
from sources.replay import load_folder

COMMAND = "python -m benchmarks fresh"
#: Seconds between polls, busy or idle.
POLL_SECONDS = 2.0
#: Seconds between uploads: not a multiple of the poll interval, so that they meet it at moments all over it.
INTERVAL_SECONDS = 3.37
#: What the specification allows beyond the poll interval, in seconds.
ALLOWED_SECONDS = 2.0
#: Seconds between two questions: fewer than the requests a minute that a client may make.
ASK_SECONDS = 0.12
NODE = "F001"
#: Uploads that are not counted: with the first of them models and connections warm up.
WARM = 2
#: Seconds after which an upload that is not found counts as lost.
LIMIT_SECONDS = 60.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run(work: Path, uploads: int = 30, poll: float = POLL_SECONDS, interval: float = INTERVAL_SECONDS) -> list[Row]:
    """So many uploads, one after the other."""
    intervals = {"WEAVLOADER_POLL_BUSY": f"{poll:g}", "WEAVLOADER_POLL_IDLE": f"{poll:g}"}
    with up(environment(work / "data", **intervals)) as settings:
        took = seconds_to_found(settings, work / "pictures", uploads + WARM, interval)[WARM:]
    what = f"upload in the stream to found by search, {len(took)} uploads, polls {poll:g} s apart, s"
    bound = poll + ALLOWED_SECONDS
    return [
        row(f"{what}: median", took, COMMAND),
        Row(f"{what}: 95th percentile", percentile(took, 0.95), None, COMMAND, spread(took), ceiling=bound),
    ]


def quick(work: Path) -> list[Row]:
    """Two uploads: to see that it runs, not what it measures."""
    return run(work, 2, 0.5, 0.9)


def seconds_to_found(settings: Settings, folder: Path, uploads: int, interval: float) -> list[float]:
    """How long each upload took until a search gave it, in the order in which they were found."""
    write_round(folder, 3, uploads)
    address = f"http://127.0.0.1:{settings.web.port}/api/search"
    took: dict[str, float] = {}
    pictures = load_folder(folder, vsn=NODE)
    wait_until(lambda: _answers(address), LIMIT_SECONDS)
    with closing(Ledger(settings.jobs)) as ledger, LiveReplay("fresh", pictures, interval, ledger):
        last = time.monotonic()
        while len(took) < uploads:
            hits, now = _found(address), time.time()
            for hit in hits:
                if hit["id"] not in took:
                    took[hit["id"]] = now - parse_moment(hit["captured_at"]).timestamp()
                    last = time.monotonic()
            if time.monotonic() > last + LIMIT_SECONDS:
                raise TimeoutError(f"{len(took)} of {uploads} uploads were found; the next one was not")
            time.sleep(ASK_SECONDS)
    return list(took.values())


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _answers(address: str) -> bool:
    try:
        _found(address)
    except OSError:  # the page is a part of its own, which comes up beside the others
        return False
    return True


def _found(address: str) -> list[dict[str, str]]:
    """What a search of the stream's node finds, newest first, as the API tells it."""
    asked = urllib.parse.urlencode({"q": "a picture", "vsn": NODE, "sort": "time", "limit": "100"})
    with _DIRECT.open(f"{address}?{asked}", timeout=30) as answer:
        results: list[dict[str, str]] = json.loads(answer.read())["results"]
    return results
