"""What people do with dead letters: put their images back to work. (Throwing letters away: ``job_system.archive``.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger import Ledger
from records import ImageRecord

# What sends images' messages, as ``publish_records`` does for an app.
Publish = Callable[[Sequence[ImageRecord]], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Ids of letters: whose images are queued again; that were not replayed; of these, those that are there still,
    because their message held no record.
    """

    queued: Sequence[str]
    missing: Sequence[str]
    unreadable: Sequence[str]


def replay_letters(ledger: Ledger, ids: Sequence[str], publish: Publish) -> Replayed:
    """Queue the images of these letters again, with all attempts before them.

    Raises ``PartUnavailable`` when the broker is away; what was taken from the letters by then the sweep publishes.
    """
    records = ledger.letters.replay(ids)
    publish(records)
    missing = sorted(set(ids) - {record.id for record in records})
    unreadable = [task_id for task_id in missing if ledger.letters.get(task_id) is not None]
    return Replayed([record.id for record in records], missing, unreadable)
