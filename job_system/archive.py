"""What leaves Redis for good goes to a JSON-lines file a day, in the data folder's ``archive/``, for some months."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ledger import Ledger
from metrics import recorder
from records import DeadLetter
from settings import Settings

#: Days for which a day's file is kept.
KEPT_DAYS = 90


def archive_finished(ledger: Ledger, settings: Settings) -> dict[str, int]:
    """Write old dead letters and finished images to today's file, then let them go; how many of each.

    Written before removed: a crash in between leaves a line twice, never none. A letter goes up to two hours before its
    time, since Redis itself drops it at its time.
    """
    folder = settings.paths.data / "archive"
    letters = 0
    # What expires before the next run: Redis lets the letters themselves go on time, with nobody to write them down.
    while expiring := ledger.letters.expiring():
        letters += len(throw_away(ledger, settings, expiring))
    letters += ledger.letters.expire()  # of letters that were gone before an archive came, what points at them
    images = 0
    for finished in ledger.forget_finished(settings.jobs.finished_days):
        _append(folder, ({"entry": "finished_image", **asdict(image)} for image in finished))
        images += len(finished)
    _remove_old(folder)
    return {"letters": letters, "images": images}


def throw_away(ledger: Ledger, settings: Settings, letters: Sequence[DeadLetter]) -> Sequence[str]:
    """Write dead letters to today's file, throw them away and count them; the ids of those that were still there."""
    _append(settings.paths.data / "archive", ({"entry": "dead_letter", **asdict(letter)} for letter in letters))
    gone = ledger.letters.discard_known(letter.task_id for letter in letters)
    records = {letter.task_id: letter.record for letter in letters}
    for task_id in gone:
        named = {name: str(records[task_id].get(name, "")) for name in ("vsn", "node", "job", "task", "camera")}
        recorder.dead_letter_thrown_away(**named)
    return gone


def _append(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Add to today's file, which its owner alone may read: an error's text and a URL may tell more than was meant."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    today = os.open(folder / f"{_today()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(today, "a", encoding="utf-8") as file:
        os.fchmod(today, 0o600)
        file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def _remove_old(folder: Path) -> None:
    oldest = _today() - timedelta(days=KEPT_DAYS)
    for path in folder.glob("????-??-??.jsonl"):
        with suppress(ValueError, FileNotFoundError):  # another file of such a name; another cleaner was quicker
            if date.fromisoformat(path.stem) < oldest:
                path.unlink()


def _today() -> date:
    return datetime.now(UTC).date()
