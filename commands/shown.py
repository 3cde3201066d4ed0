"""How results are shown: lines for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from records import AuditCounts, Calibration, PartState, SearchResult


def print_json(value: Mapping[str, Any]) -> None:
    """One object on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def say(line: str) -> None:
    """A line about progress, flushed so that it is seen at once behind a pipe too."""
    click.echo(line)
    sys.stdout.flush()


def plain(text: str) -> str:
    """The text without what a terminal would obey: names and captions come from anywhere."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def results_text(results: Sequence[SearchResult]) -> str:
    """Ranked results: score, caption, then time, node, camera and link."""
    if not results:
        return "nothing found: nothing has landed that the filters allow"
    blocks = []
    for rank, result in enumerate(results, 1):
        node = result.vsn or result.node or "unknown node"
        where = f"{node}, camera {result.camera}" if result.camera else node
        blocks.append(
            f"{rank:>3}. {result.score:.3f}  {plain(result.caption)}\n"
            f"            {plain(f'{result.captured_at}  {where}  {result.filename}')}\n"
            f"            {plain(result.link)}"
        )
    return "\n".join(blocks)


def audit_text(counts: AuditCounts) -> str:
    """The audit line."""
    return (
        f"audit: seen {counts.seen}, pending {counts.pending}, leased {counts.leased}, landed {counts.landed},"
        f" dead {counts.dead}, skipped {counts.skipped}, forgotten {counts.forgotten}, difference {counts.difference}"
    )


def status_text(parts: Mapping[str, PartState]) -> str:
    """One line a part."""
    width = max((len(name) for name in parts), default=0)
    return "\n".join(
        f"{'ok  ' if state.ok else 'DOWN'}  {name:<{width}}  {state.address or '-'}  {plain(state.detail)}"
        for name, state in parts.items()
    )


def calibration_text(made: Calibration) -> str:
    """One line on a calibration."""
    when = datetime.fromtimestamp(made.when, UTC)
    asked = "caption, image and text embedding" if made.text else "caption and image embedding"
    disturbed = f"; too low: images in work meanwhile: {made.in_work}" if made.in_work else ""
    return plain(
        f"{made.images_per_second:.1f} images/s of {made.captioner.name} and {made.embedder.name} ({asked}),"
        f" {made.in_flight} in flight, {when:%Y-%m-%dT%H:%M:%SZ}{disturbed}"
    )


def ceiling_text(made: Calibration | None, *, counts: bool) -> str:
    """The line of ``status`` on the last calibration; ``counts``: it is of the configured models."""
    if made is None:
        return "ceiling: not known; `python main.py calibrate` measures what the models give at most"
    if not counts:
        return f"ceiling: not known of the configured models; the last was {calibration_text(made)}"
    return f"ceiling: {calibration_text(made)}"


def size_text(size: float) -> str:
    """A number of bytes, in the unit that leaves it short."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def span_text(seconds: float) -> str:
    """A time span, in the unit that leaves it short."""
    if seconds < 100:
        return f"{seconds:.3g} s" if seconds >= 0.1 else "less than 0.1 s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"
