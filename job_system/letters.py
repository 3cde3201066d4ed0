"""What people do with dead letters: put their images back to work. (Throwing letters away: ``job_system.archive``.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger import Ledger
from records import ImageRecord

# What sends images' messages, as ``publish_records`` does for an app.
Publish = Callable[[Sequence[ImageRecord]], None]
# What is told of a long step: its name, how much of it is done, and of how much.
Report = Callable[[str, int, int], None]
#: Letters of one step.
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Replayed:
    """Ids of letters: whose images are queued again; that were not replayed; of these, those that are there still,
    because their message held no record.
    """

    queued: Sequence[str]
    missing: Sequence[str]
    unreadable: Sequence[str]


def replay_letters(
    ledger: Ledger,
    ids: Sequence[str],
    publish: Publish,
    report: Report = lambda *_: None,
    at_once: int = AT_ONCE,
) -> Replayed:
    """Queue the images of these letters again, with all attempts before them, so many letters at once.

    ``report`` is told after each of these steps. Raises ``PartUnavailable`` when the broker is away; what was taken
    from the letters by then the sweep publishes.
    """
    asked = list(dict.fromkeys(ids))
    queued: list[str] = []
    for start in range(0, len(asked), at_once):
        records = ledger.letters.replay(asked[start : start + at_once])
        publish(records)
        queued += [record.id for record in records]
        report("queueing images", min(start + at_once, len(asked)), len(asked))
    missing = sorted(set(asked) - set(queued))
    unreadable = [letter.task_id for letter in ledger.letters.read(missing)]
    return Replayed(queued, missing, unreadable)
