"""What leaves Redis for good goes to a JSON-lines file a day, in the data folder's ``archive/``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ledger import Ledger
from metrics import recorder
from settings import Settings


def archive_finished(ledger: Ledger, settings: Settings) -> dict[str, int]:
    """Write old dead letters and finished images to today's file, then let them go; how many of each.

    Written before removed: a crash in between leaves a line twice, never none. A letter goes up to two hours before its
    time, since Redis itself drops it at its time.
    """
    folder = settings.paths.data / "archive"
    letters = 0
    # What expires before the next run: Redis lets the letters themselves go on time, with nobody to write them down.
    while expiring := ledger.letters.expiring():
        _append(folder, ({"entry": "dead_letter", **asdict(letter)} for letter in expiring))
        letters += ledger.letters.discard([letter.task_id for letter in expiring])
        for letter in expiring:
            named = {name: str(letter.record.get(name, "")) for name in ("vsn", "node", "job", "task", "camera")}
            recorder.dead_letter_thrown_away(**named)
    letters += ledger.letters.expire()
    letters += ledger.letters.expire()  # of letters that were gone before an archive came, what points at them
    images = 0
    for finished in ledger.forget_finished(settings.jobs.finished_days):
        _append(folder, ({"entry": "finished_image", **asdict(image)} for image in finished))
        images += len(finished)
    return {"letters": letters, "images": images}


def _append(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{datetime.now(UTC):%Y-%m-%d}.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
