"""How a reindex is shown: what it would be, how far it is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from commands.estimating import duration, shown_bytes
from records import ModelIdentity

if TYPE_CHECKING:
    from ledger.reindexing import Reindex
    from store.versions import Version

#: Images that could not be embedded of which a line is shown.
MOST_LINES = 10


@dataclass(frozen=True, slots=True)
class Target:
    """Whose vectors are to be made: the model with its version, whether it reads originals, and all that are served."""

    model: ModelIdentity
    reads_original: bool
    served: frozenset[str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a reindex would be: ``size`` bytes come into the store beside what is there, ``fetched`` from sources."""

    target: Target
    version: Version
    by: ModelIdentity
    objects: int
    size: int
    fetched: int
    seconds: float
    lengths: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """The object of ``reindex --dry-run --json``."""
        return {
            "dry_run": True,
            "collection": self.version.collection,
            "embedder": self.target.model.name,
            "embedder_version": self.target.model.version,
            "old_embedder": self.by.name or None,
            "objects": self.objects,
            "bytes": self.size,
            "bytes_fetched": self.fetched,
            "seconds": round(self.seconds, 1),
            "dimensions": self.lengths[1],
            "old_dimensions": self.lengths[0] or None,
        }

    def lines(self) -> list[str]:
        """The same for people."""
        model = self.target.model
        fetched = f"about {shown_bytes(self.fetched)} of originals" if self.fetched else "none, stored thumbnails do"
        return [
            f"would be embedded anew: {self.objects} images of {self.version.collection}, {self.by.name or 'another'}"
            f" ({self.lengths[0] or '?'} numbers) by {model.name} version {model.version or '?'} ({self.lengths[1]})",
            f"estimated: {duration(self.seconds)} while nobody else asks for models, and about"
            f" {shown_bytes(self.size)} more in the store until the old version is dropped",
            f"to be fetched: {fetched}",
            "dry run: nothing was changed",
        ]


def status_lines(told: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines, one, last = [], told["reindex"], told["last"]
    for version in told["versions"]:
        use = "in use" if version["in_use"] else "not in use"
        whose = f"vectors of {version['embedder']}" if version["embedder"] else "vectors of whoever is configured"
        lines.append(f"{version['collection']}: {version['objects']} objects, {whose}, {use}")
    if one:
        missing = f", {len(one['missing'])} could not be embedded" if one["missing"] else ""
        lines.append(
            f"under way: {one['collection']} by {one['embedder']}, {one['state']}: {one['gone_by']} of {one['total']}"
            f" objects, {told['waiting']} that landed meanwhile wait{missing}; `python main.py reindex` goes on with it"
        )
        lines += [f"  {image}: {why}" for image, why in list(one["missing"].items())[:MOST_LINES]]
    elif last:
        lines.append(f"last: {last['collection']} by {last['embedder']}, {last['state']}")
    else:
        lines.append("no reindex is under way")
    return lines


def done_lines(one: Reindex, configured: str, watches: int) -> list[str]:
    """What became of a reindex that switched; ``watches`` are the standing searches for pictures that there are."""
    of_captions = (
        f", {one.of_captions} of them of their captions alone, as no picture is left" if one.of_captions else ""
    )
    of_thumbnails = (
        f", {one.of_thumbnails} of them of thumbnails, as the originals could not be had" if one.of_thumbnails else ""
    )
    lines = [
        f"switched: {one.collection} is in use, {one.copied} vectors by {one.embedder} version"
        f" {one.embedder_version or '?'}{of_thumbnails}{of_captions}",
        f"{one.old} stays as it was: `python main.py reindex --drop-old` removes it",
    ]
    if configured != one.embedder:
        lines.append(
            f"set WEAVLOADER_EMBEDDER={one.embedder}: searches and landings go by the collection already, and"
            f" `calibrate`, health checks and `up` by the setting, which is {configured}"
        )
    if watches:
        lines.append(
            f"the thresholds of {watches} standing searches are of {one.old_embedder or 'the model before'}, and"
            f" {one.embedder} gives other scores: `python main.py watch test NAME --since 7d` shows them"
        )
    return lines
