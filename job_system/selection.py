"""Which images of a source are taken: captions cost, so people say what is worth them. The rest is skipped before
anything is queued, each with its reason, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from records import ImageRecord, Page, SkippedRecord
from sections import hours_of
from settings import Selection

#: Why an image is left out; the ledger and the metrics count them by these words.
NODE, CAMERA, TASK, HOUR, LIMIT = "other_node", "other_camera", "other_task", "other_hour", "over_hourly_limit"
REASONS = (NODE, CAMERA, TASK, HOUR, LIMIT)

#: Group and id of each image in turn, and the most of a group; answers with the positions of those that have a place,
#: the same for the same ids whenever it is asked again.
Places = Callable[[Sequence[tuple[str, str]], int], Collection[int]]


class Selector:
    """Tells what the settings choose."""

    def __init__(self, section: Selection) -> None:
        self._section = section
        self._hours = hours_of(section.hours)
        self._zone = ZoneInfo(section.zone)

    @property
    def chooses(self) -> bool:
        """Whether anything may be left out."""
        return self._section.model_dump(exclude={"zone"}) != Selection().model_dump(exclude={"zone"})

    def reason(self, record: ImageRecord) -> str:
        """Why the image is left out whatever else there is; '' where it is not."""
        section = self._section
        if section.nodes and not _any(section.nodes, record.vsn, record.node):
            return NODE
        if section.cameras and not _any(section.cameras, record.camera):
            return CAMERA
        if section.tasks and not _any(section.tasks, record.task):
            return TASK
        if self._hours and self._captured(record).hour not in self._hours:
            return HOUR
        return ""

    def select(self, page: Page, places: Places) -> Page:
        """The page with what is left out among its skipped ones. Of an hour of a camera those are taken that were
        captured first, as far as they are known by then.
        """
        if not self.chooses:
            return page
        reasons = {record.id: self.reason(record) for record in page.records}
        if self._section.most_per_hour:
            wanted = [record for record in page.records if not reasons[record.id]]
            wanted.sort(key=lambda record: (record.captured_ns, record.id))
            placed = set(places([(self._group(record), record.id) for record in wanted], self._section.most_per_hour))
            reasons |= {record.id: LIMIT for at, record in enumerate(wanted) if at not in placed}
        return replace(
            page,
            records=tuple(record for record in page.records if not reasons[record.id]),
            skipped=(
                *page.skipped,
                *(_skipped(record, reasons[record.id]) for record in page.records if reasons[record.id]),
            ),
        )

    def _captured(self, record: ImageRecord) -> datetime:
        return record.captured_at.astimezone(self._zone)

    def _group(self, record: ImageRecord) -> str:
        """A camera of a node, and an hour of its zone's clock."""
        where = (record.source, record.vsn or record.node, record.camera)
        return ":".join((*where, f"{self._captured(record):%Y-%m-%dT%H%z}"))


class PlacesInMemory:
    """Places of a trial: nothing is kept."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def __call__(self, wanted: Sequence[tuple[str, str]], most: int) -> list[int]:
        """See ``Places``; each id is asked for once."""
        found = []
        for at, (group, _) in enumerate(wanted):
            if self._taken[group] < most:
                self._taken[group] += 1
                found.append(at)
        return found


def _any(patterns: Sequence[str], *names: str) -> bool:
    """Whether one of the names fits one of the patterns (``*``, ``?``, ``[…]``), whatever its case."""
    lowered = [name.casefold() for name in names]
    return any(fnmatchcase(name, pattern.casefold()) for pattern in patterns for name in lowered)


def _skipped(record: ImageRecord, reason: str) -> SkippedRecord:
    return SkippedRecord(
        id=record.id,
        source=record.source,
        reason=reason,
        detail="the settings of [selection] leave it out",
        vsn=record.vsn,
        job=record.job,
        task=record.task,
        camera=record.camera,
    )
