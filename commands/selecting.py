"""``select``: what the settings choose of the sources, tried on what they had."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.moments import Moment
from commands.progress import Steps
from commands.shown import plain, print_json, say
from errors import PartUnavailable, UsageError
from records import SearchFilters, SourceAddress
from settings import Settings

if TYPE_CHECKING:
    from job_system.selection import Selector
    from sources import Poller

#: Cameras that people are shown of a source, those with the most images; --json has them all.
SHOWN_CAMERAS = 20


@dataclass
class Tried:
    """What a source had, and what of it would have been taken."""

    found: int = 0
    taken: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    cameras: dict[str, list[int]] = field(default_factory=dict)

    def count(self, camera: str, reason: str) -> None:
        """Count one image; its reason is '' where it is taken."""
        of = self.cameras.setdefault(camera, [0, 0])
        self.found += 1
        of[0] += 1
        if reason:
            self.left_out[reason] += 1
        else:
            self.taken += 1
            of[1] += 1

    def to_json(self) -> dict[str, Any]:
        """The object of a source in ``select --test --json``."""
        cameras = {name: {"found": found, "taken": taken} for name, (found, taken) in sorted(self.cameras.items())}
        return {"found": self.found, "taken": self.taken, "left_out": dict(self.left_out), "cameras": cameras}


async def tried(
    poller: Poller, source: SourceAddress, selector: Selector, since: datetime, until: datetime, steps: Steps
) -> Tried:
    """Read a source's past and choose of it. Raises ``PartUnavailable``."""
    from job_system.selection import PlacesInMemory

    found, places, known = Tried(), PlacesInMemory(), set[str]()
    start, end = (int(moment.timestamp() * 1e9) for moment in (since, until))
    first = start
    while True:
        page = await poller.poll_async(source, start)
        records = tuple(one for one in page.records if one.captured_ns < end and one.id not in known)
        known |= {one.id for one in records}
        chosen = selector.select(replace(page, records=records, skipped=()), places)
        reasons = {one.id: one.reason for one in chosen.skipped}
        for record in records:
            found.count(f"{record.vsn or record.node}/{record.camera or '-'}", reasons.get(record.id, ""))
        for skipped in page.skipped:
            if skipped.id not in known:
                known.add(skipped.id)
                found.found += 1
                found.left_out[skipped.reason] += 1
        if page.complete_ns is None or page.complete_ns >= end:
            return found
        start = page.complete_ns
        steps(f"seconds of {source.name} read", (start - first) // 10**9, (end - first) // 10**9)


@click.command()
@click.option("--test", is_flag=True, help="Read the sources' past, and say what would have been taken of it.")
@click.option("--since", type=Moment(), help="With --test: from then on, a time, a date or an age [24h].")
@click.option("--until", type=Moment(), help="With --test: until then [now].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def select(test: bool, since: datetime | None, until: datetime | None, as_json: bool) -> None:
    """Show what the settings choose of the sources; with --test, what that would have given. Nothing is changed."""
    from searching import check_range, parse_moment

    loaded = configuration.load().settings
    if not test:
        if since or until:
            raise UsageError("--since and --until are for --test: add it")
        chosen = loaded.selection.model_dump(mode="json")
        if as_json:
            print_json({"selection": chosen})
        else:
            for line in _chosen(loaded):
                say(plain(line))
        return
    since, until = since or parse_moment("24h"), until or datetime.now(UTC)
    check_range(SearchFilters(since=since, until=until))
    found, unread = asyncio.run(_all(loaded, since, until))
    if as_json:
        print_json(
            {
                "selection": loaded.selection.model_dump(mode="json"),
                "since": since.isoformat(),
                "until": until.isoformat(),
                "sources": {name: one.to_json() for name, one in found.items()},
                "unread": unread,
            }
        )
    else:
        for line in [*_chosen(loaded), *_told(found, since, until)]:
            say(plain(line))
        for name, why in unread.items():
            say(plain(f"{name} could not be read: {why}"))
    if unread:
        raise PartUnavailable("source", f"{len(unread)} of the sources could not be read")


async def _all(loaded: Settings, since: datetime, until: datetime) -> tuple[dict[str, Tried], dict[str, str]]:
    """Each source's trial, and why others could not be read."""
    from job_system.known_sources import KnownSources
    from job_system.selection import Selector
    from ledger import Ledger
    from sources import Poller

    configuration.require(loaded, "redis")
    with closing(Ledger(loaded.jobs)) as ledger:
        sources = KnownSources(loaded, ledger).read()
    if not sources:
        raise UsageError("there is no source: set SAGE_USER and SAGE_PASS, or start a replay")
    poller, selector = Poller(loaded.sage, loaded.monitor), Selector(loaded.selection)
    found, unread = dict[str, Tried](), dict[str, str]()
    with Steps() as steps:
        for source in sources:
            try:
                found[source.name] = await tried(poller, source, selector, since, until, steps)
            except PartUnavailable as error:
                unread[source.name] = str(error)
    return found, unread


def _chosen(loaded: Settings) -> list[str]:
    section = loaded.selection
    most = f"at most {section.most_per_hour} of a camera and hour" if section.most_per_hour else "any number an hour"
    hours = f"{', '.join(section.hours)} ({section.zone})" if section.hours else "all"
    return [
        f"nodes: {', '.join(section.nodes) or 'all'}",
        f"cameras: {', '.join(section.cameras) or 'all'}",
        f"tasks: {', '.join(section.tasks) or 'all'}",
        f"hours: {hours}",
        f"pictures: {most}",
    ]


def _told(found: dict[str, Tried], since: datetime, until: datetime) -> list[str]:
    lines = []
    for name, one in found.items():
        lines.append(f"{name}, {since:%Y-%m-%dT%H:%MZ} to {until:%Y-%m-%dT%H:%MZ}: {one.taken} of {one.found} taken")
        lines += [f"  left out, {reason}: {count}" for reason, count in one.left_out.most_common()]
        most = sorted(one.cameras.items(), key=lambda item: (-item[1][0], item[0]))
        lines += [f"  {camera}: {taken} of {there}" for camera, (there, taken) in most[:SHOWN_CAMERAS]]
        if len(most) > SHOWN_CAMERAS:
            lines.append(f"  … and {len(most) - SHOWN_CAMERAS} more cameras (--json lists all)")
    return lines


COMMANDS = (select,)
