"""A source's past in pages, between two times: the same query as the polls', narrowed to what is wanted of it."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import settings
from errors import PartUnavailable
from records import Page, PastRange, SkippedRecord, SourceAddress
from sources import transport
from sources.query import open_session, query, query_time
from sources.sage import QUICK, SHORTEST_NS, WINDOW_NS, Collector

#: The longest page: a single camera's images of a month are few.
LONGEST_NS = 30 * 24 * 3600 * 10**9
#: A page of fewer lines lets the next one be of twice the time, one of more of half of it.
FEW_LINES, MANY_LINES = 3_000, 20_000

_HOUR_NS = 3600 * 10**9
#: How node ids look; what else names a node is its vsn.
_NODE_ID = re.compile(r"[0-9a-fA-F]{16}")


class PastReader:
    """Reads pages. It remembers how much a source can give at once, and holds nothing open."""

    def __init__(self, sage: settings.Sage, monitor: settings.Monitor) -> None:
        self._task_filter = sage.task_filter
        self._denied = frozenset(node.casefold() for node in sage.unallowed_nodes)
        self._timeout = monitor.timeout
        self._window = WINDOW_NS

    async def page(self, address: SourceAddress, past: PastRange, start_ns: int) -> Page:
        """What the source has of the range from ``start_ns`` (nanoseconds since the epoch) on, oldest first, up to
        before the page's ``complete_ns``, which is always given: a part, or the range's end.

        Raises ``PartUnavailable``, ``LoginRefused`` or ``ConfigurationError``; then nothing of the answer counts, and
        where it took too long the next page is a shorter one.
        """
        end = self._end(start_ns, past.until_ns)
        body = {
            "start": query_time(start_ns),
            "end": query_time(end + 999),  # it cuts to microseconds, towards the past
            "filter": {"task": ".*" if address.local else self._task_filter, **_filters(past)},
        }
        collected = Collector(address, self._denied, end)
        began = time.monotonic()
        try:
            async with open_session() as session:
                await query(session, address, body, self._timeout, collected.add)
        except PartUnavailable:
            self._window = max(self._window // 2, SHORTEST_NS)
            raise
        self._learn(collected.lines, time.monotonic() - began)
        page = collected.page(time.time_ns())
        wanted = replace(past, since_ns=start_ns, until_ns=end)
        return replace(
            page,
            records=tuple(record for record in page.records if wanted.holds(record)),
            skipped=tuple(one for one in page.skipped if _is_wanted(one, past)),
            complete_ns=end,
        )

    def _end(self, start_ns: int, until_ns: int) -> int:
        """Where the page ends: at a whole hour, so that what is chosen of an hour is chosen of all of it."""
        end = start_ns + self._window
        whole = end // _HOUR_NS * _HOUR_NS
        return min(whole if whole > start_ns else end, until_ns)

    def _learn(self, lines: int, seconds: float) -> None:
        if lines > MANY_LINES:
            self._window = max(self._window // 2, SHORTEST_NS)
        elif lines < FEW_LINES and seconds < self._timeout * QUICK:
            self._window = min(self._window * 2, LONGEST_NS)


async def has_manifest(address: SourceAddress, vsn: str, seconds: float) -> bool:
    """Whether the source may know the node: it has a manifest, or does not tell."""
    url = f"{address.manifest_url.rstrip('/')}/{quote(vsn, safe='')}/"
    try:
        async with (
            asyncio.timeout(seconds),
            open_session() as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return response.status != 404
    except transport.ERRORS:
        return True


def is_node_id(name: str) -> bool:
    """Whether a node's name is its id; such a node may have no vsn."""
    return bool(_NODE_ID.fullmatch(name))


def _filters(past: PastRange) -> dict[str, Any]:
    """What the source is asked to leave out. Nodes are named in one of two fields: where both are wanted, none is."""
    found = {}
    kinds = {is_node_id(name) for name in past.vsns}
    if len(kinds) == 1:
        found["node" if kinds.pop() else "vsn"] = "|".join(map(re.escape, past.vsns))
    if past.cameras:
        found["camera"] = "|".join(map(re.escape, past.cameras))
    return found


def _is_wanted(left_out: SkippedRecord, past: PastRange) -> bool:
    """Whether a line that is no image's is the range's, as far as it tells."""
    vsns = {name.casefold() for name in past.vsns}
    return not vsns or not left_out.vsn or left_out.vsn.casefold() in vsns or any(map(is_node_id, past.vsns))
