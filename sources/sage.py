"""The SAGE data stream: polls of its query API become frozen image records."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import settings
from errors import LoginRefused, PartUnavailable
from records import (
    ImageRecord,
    Page,
    SkippedRecord,
    SourceAddress,
    image_id,
    parse_timestamp,
)
from sources.query import SAGE, open_session, query, query_time, remedy
from sources.transport import shown

#: Where a replay serves its pictures; what follows is the picture's identity (content hash and relative path).
REPLAY_PATH = "/api/v1/data/replay/"

#: One poll covers the overlap and this much of what is new, in nanoseconds; half as much after each poll that failed.
WINDOW_NS = 6 * 3600 * 10**9
SHORTEST_NS = 300 * 10**9
#: Share of the time that a query may take within which an answer is quick enough for a window of twice the length.
QUICK = 0.25

_META = ("filename", "vsn", "node", "camera", "host", "job", "plugin", "task", "zone")
_INT64 = 2**63


def sage_address(section: settings.Sage) -> SourceAddress | None:
    """Where the SAGE cloud is; None where it is not polled: without SAGE_USER, or switched off."""
    if not (section.user and section.poll):
        return None
    return SourceAddress(
        name=SAGE,
        query_url=section.query_url,
        storage_url=section.storage_url,
        manifest_url=section.manifest_url,
        user=section.user,
        password=section.password,
    )


class Poller:
    """Asks sources for what was uploaded since a time."""

    def __init__(self, sage: settings.Sage, monitor: settings.Monitor) -> None:
        self._task_filter = sage.task_filter
        self._denied = frozenset(node.casefold() for node in sage.unallowed_nodes)
        self._timeout = monitor.timeout
        self._overlap_ns = int(monitor.overlap * 1e9)
        self._windows: dict[str, int] = {}
        self._ahead: dict[str, int] = {}

    def poll(self, address: SourceAddress, start_ns: int) -> Page:
        """What the source has from ``start_ns`` (nanoseconds since the epoch) on, oldest first.

        After a gap that is a part only, up to the page's ``complete_ns``: some hours, fewer where the source could not
        give so much in time, and more again where it was quick.

        Raises ``PartUnavailable``, ``LoginRefused`` or ``ConfigurationError``; then nothing of the answer counts. It
        runs an event loop of its own: inside a running one await ``poll_async()``.
        """
        return asyncio.run(self.poll_async(address, start_ns))

    async def poll_async(self, address: SourceAddress, start_ns: int) -> Page:
        """See ``poll()``."""
        # A registered replay was asked for by the user: the filter that narrows the cloud's tasks is not for it.
        tasks = ".*" if address.local else self._task_filter
        body: dict[str, Any] = {"start": query_time(start_ns), "filter": {"task": tasks}}
        window = self._windows.get(address.name, WINDOW_NS)
        # The monitor starts an overlap before its cursor: a window must reach beyond it to lead anywhere.
        end = (start_ns + self._overlap_ns + window) // 1000 * 1000
        new = time.time_ns() - self._ahead.get(address.name, 0) - start_ns - self._overlap_ns
        # What is younger than the overlap may come late, and without an end what a node's clock put ahead comes too.
        past = window + self._overlap_ns < new
        if past:
            body["end"] = query_time(end)
        collected = Collector(address, self._denied, end if past else None)
        began = time.monotonic()
        try:
            async with open_session() as session:
                there = await query(session, address, body, self._timeout, collected.add)
        except LoginRefused:
            raise
        except PartUnavailable:
            self._windows[address.name] = max(min(window, new) // 2, SHORTEST_NS)
            raise
        if time.monotonic() - began < self._timeout * QUICK:
            self._windows[address.name] = min(window * 2, WINDOW_NS)
        # Where this host's clock is ahead of the source's, the source's counts: nothing that is still to come may be
        # passed over.
        here = time.time_ns()
        now = here if there is None else min(here, there)
        self._ahead[address.name] = here - now
        if collected.end_ns is not None and collected.end_ns > now - self._overlap_ns:
            collected.end_ns = None
        return collected.page(now)


@dataclass
class Collector:
    """Takes the lines of a query's answer, and makes a page of them."""

    address: SourceAddress
    denied: Collection[str]
    end_ns: int | None = None
    records: list[ImageRecord] = field(default_factory=list)
    skipped: list[SkippedRecord] = field(default_factory=list)
    newest_ns: int | None = None
    lines: int = 0
    objects: int = 0
    looks_like_json: bool = False

    def add(self, line: bytes) -> None:
        """One line of the answer."""
        self.lines += 1
        if self.lines == 1:
            self.looks_like_json = line.lstrip().startswith(b"{")
        parsed = parse_line(line, self.address, self.denied)
        self.objects += parsed.is_object
        if isinstance(parsed.result, ImageRecord):
            self.records.append(parsed.result)
        elif parsed.result is not None:
            self.skipped.append(parsed.result)
        if parsed.ns is not None:
            self.newest_ns = max(parsed.ns, self.newest_ns if self.newest_ns is not None else parsed.ns)

    def page(self, now_ns: int) -> Page:
        """What the lines told. Raises ``PartUnavailable`` where they are no records."""
        if self.lines and not self.objects and not self.looks_like_json:
            name = self.address.name
            raise PartUnavailable(
                name,
                f"{name}: {shown(self.address.query_url)} answers with something that is not newline-delimited JSON:"
                f" {remedy(self.address)}",
            )
        # A clock that is ahead somewhere must not carry the cursor past what is yet to come.
        newest = None if self.newest_ns is None else min(self.newest_ns, now_ns)
        self.records.sort(key=lambda record: record.captured_ns)
        return Page(tuple(self.records), tuple(self.skipped), newest, self.end_ns)


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """What became of one line: a record, a skipped record, or None for what is not an upload at all.

    ``ns`` is the line's time in nanoseconds where it has a readable one, whatever became of it.
    """

    result: ImageRecord | SkippedRecord | None
    ns: int | None
    is_object: bool


def parse_line(line: bytes, address: SourceAddress, denied: Collection[str] = ()) -> ParsedLine:
    """One line of a query's answer as an image record, or as a skipped one with its reason.

    Reasons: ``bad_line`` (not a JSON object), ``no_timestamp``, ``bad_timestamp``, ``no_url``, ``bad_url``, ``no_vsn``
    (neither vsn nor node; old records have only the node) and ``denied_node``. ``denied`` holds case-folded nodes.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        text = line[:60].decode("utf-8", "replace")
        return ParsedLine(
            _skip(address, line, "bad_line", f"a line that is not a JSON object: {text!r}", {}), None, False
        )
    meta = document.get("meta")
    values: dict[str, Any] = (
        {name: _text(meta.get(name)) for name in _META} if isinstance(meta, dict) else dict.fromkeys(_META, "")
    )
    stamp = document.get("timestamp")
    ns = _nanoseconds(stamp)
    if document.get("name") not in (None, "upload"):
        return ParsedLine(None, ns, True)

    value = document.get("value")
    url = value.strip() if isinstance(value, str) else ""
    reason = ""
    if not isinstance(stamp, str) or not stamp.strip():
        reason, detail = "no_timestamp", "the record has no timestamp"
    elif ns is None:
        reason, detail = "bad_timestamp", f"the record's timestamp {stamp[:40]!r} is not a time with a zone"
    elif not url:
        reason, detail = "no_url", "the record has no value, which is an upload's URL"
    elif (problem := _url_problem(url)) is not None:
        reason, detail = "bad_url", f"the record's URL {problem}"
    elif not values["vsn"] and not values["node"]:
        reason, detail = "no_vsn", "the record names neither a vsn nor a node"
    if reason:
        where = ", ".join(f"{name} {values[name]}" for name in ("vsn", "node", "job", "filename") if values[name])
        return ParsedLine(
            _skip(address, line, reason, f"{detail} ({where or 'nothing else is known of it'})", values), ns, True
        )

    assert isinstance(stamp, str)
    assert ns is not None
    identity = image_id(*_identity(url, address))
    if {values["vsn"].casefold(), values["node"].casefold()} & set(denied):
        node = values["vsn"] or values["node"]
        skipped = SkippedRecord(
            id=identity,
            source=address.name,
            reason="denied_node",
            detail=f"node {node} is in UNALLOWED_NODES",
            **_kept(values),
        )
        return ParsedLine(skipped, ns, True)
    if not values["filename"]:
        values["filename"] = urlsplit(url).path.rpartition("/")[2]
    record = ImageRecord(id=identity, source=address.name, url=url, timestamp=stamp, captured_ns=ns, **values)
    return ParsedLine(record, ns, True)


def _identity(url: str, address: SourceAddress) -> tuple[str, str]:
    """What the image's id is made of: the URL, or for a replay its path, whatever port and name it has today."""
    if not address.local:
        return address.name, url
    path = urlsplit(url).path
    return "replay", path.partition(REPLAY_PATH)[2] or path


def _skip(address: SourceAddress, line: bytes, reason: str, detail: str, values: dict[str, str]) -> SkippedRecord:
    identity = image_id(address.name, f"line {hashlib.sha256(line.strip()).hexdigest()}")
    return SkippedRecord(id=identity, source=address.name, reason=reason, detail=detail, **_kept(values))


def _kept(values: dict[str, str]) -> dict[str, str]:
    return {name: values.get(name, "") for name in ("vsn", "job", "task", "camera")}


def _text(value: Any) -> str:
    """A field as text: '' for null and for what is no single value; lone surrogates replaced."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value.strip().encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _nanoseconds(stamp: object) -> int | None:
    if not isinstance(stamp, str):
        return None
    try:
        ns = parse_timestamp(stamp)
    except (ValueError, OverflowError):
        return None
    return ns if 0 <= ns < _INT64 else None


def _url_problem(url: str) -> str | None:
    """What is wrong with an upload's URL; None when it can be fetched."""
    if not url.isprintable():
        return "holds control characters"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        return "is malformed"
    if not usable:
        return "is not an http:// or https:// URL"
    if "@" in parts.netloc:
        return "holds a login"
    return None
