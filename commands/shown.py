"""How results are shown: lines for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from records import AuditCounts, PartState, SearchResult


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
        f" dead {counts.dead}, skipped {counts.skipped}, difference {counts.difference}"
    )


def status_text(parts: Mapping[str, PartState]) -> str:
    """One line a part."""
    width = max((len(name) for name in parts), default=0)
    return "\n".join(
        f"{'ok  ' if state.ok else 'DOWN'}  {name:<{width}}  {state.address or '-'}  {plain(state.detail)}"
        for name, state in parts.items()
    )
