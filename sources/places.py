"""Where a node was when it took an image: its GPS track at that time, else its manifest."""

from __future__ import annotations

import asyncio
import json
import math
import re
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, time_ns
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import aiohttp

import logs
import settings
from errors import PartUnavailable, WeavloaderError
from records import ImageRecord, Place, SourceAddress, parse_timestamp
from sources import transport
from sources.query import open_session, query, query_time
from sources.transport import shown

#: One query answers for all images of a node in such a window, in nanoseconds.
WINDOW_NS = 900 * 10**9
#: A node whose positions differ by more than this many degrees (about 100 m) moves: its track of the running window
#: is asked for again, at most this often.
MOVING_DEGREES = 0.001
MOVING_SECONDS = 60.0
#: Seconds after which a failed question is asked again, and that one question may take.
FAILED_SECONDS = 30.0
ANSWER_SECONDS = 10.0
#: Of a track these many nanoseconds lie between two points that are kept; of a node that stands still one point is.
KEPT_NS = 10 * 10**9
#: An answer with more lines (some three positions a second) or bytes is given up.
MOST_LINES = 20_000
MOST_BYTES = 16 << 20

_REMEMBERED = 4096
_LARGEST_MANIFEST = 4 << 20
_NODE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Value = TypeVar("Value")
log = logs.get("sources.places")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a node's manifest says of its place; empty where it has none."""

    latitude: float | None = None
    longitude: float | None = None
    project: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """A node's positions in time order (nanoseconds, latitude and longitude in degrees), as known at ``until_ns``."""

    points: tuple[tuple[int, float, float], ...] = ()
    until_ns: int = 0
    moves: bool = False

    def at(self, ns: int) -> tuple[float, float] | None:
        """The position nearest in time."""
        if not self.points:
            return None
        index = bisect_left(self.points, (ns,))
        nearest = min(self.points[max(index - 1, 0) : index + 1], key=lambda point: abs(point[0] - ns))
        return nearest[1], nearest[2]


@dataclass
class _Entry(Generic[Value]):
    value: Value
    expires: float


@dataclass
class _Answers(Generic[Value]):
    """Answers that are kept for a while, at most one question at a time for each, and the oldest forgotten.

    A question that fails leaves the last answer (or ``unknown``) standing for a short while.
    """

    unknown: Value
    kept: OrderedDict[tuple[str, ...], _Entry[Value]] = field(default_factory=OrderedDict)
    asking: dict[tuple[str, ...], asyncio.Task[Value]] = field(default_factory=dict)

    async def get(
        self,
        key: tuple[str, ...],
        ask: Callable[[], Awaitable[Value]],
        seconds: float,
        outdated: Callable[[Value], bool] = lambda value: False,
    ) -> Value:
        entry = self.kept.get(key)
        if entry is not None and monotonic() < entry.expires and not outdated(entry.value):
            return entry.value
        task = self.asking.get(key)
        if task is None:
            task = self.asking[key] = asyncio.create_task(self._ask(key, ask, seconds))
            task.add_done_callback(lambda _: self.asking.pop(key, None))
        return await asyncio.shield(task)  # one image that gives up does not take the answer from the others

    async def _ask(self, key: tuple[str, ...], ask: Callable[[], Awaitable[Value]], seconds: float) -> Value:
        try:
            value = await ask()
        except WeavloaderError:
            known = self.kept.get(key)
            value, seconds = known.value if known is not None else self.unknown, FAILED_SECONDS
        self.kept[key] = _Entry(value, monotonic() + seconds)
        self.kept.move_to_end(key)
        while len(self.kept) > _REMEMBERED:
            self.kept.popitem(last=False)
        return value

    async def close(self) -> None:
        tasks = list(self.asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class NodePlaces:
    """Finds places, remembering what it was told, so that a fixed camera costs one query per quarter of an hour.

    ``addresses`` gives the sources that are there now; it is called for every image and must not block.
    """

    def __init__(self, monitor: settings.Monitor, addresses: Callable[[], Sequence[SourceAddress]]) -> None:
        self._manifest_ttl = monitor.manifest_ttl
        self._timeout = min(monitor.timeout, ANSWER_SECONDS)
        self._addresses = addresses
        self._tracks: _Answers[Track] = _Answers(Track())
        self._manifests: _Answers[Manifest] = _Answers(Manifest())
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give up what is being asked, and close all connections."""
        await self._tracks.close()
        await self._manifests.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def locate(self, record: ImageRecord) -> Place:
        """The place at the image's own capture time; project and address come from the node's manifest.

        It never fails an image: what cannot be found out now is left empty, and never 0, 0.
        """
        address = next((item for item in self._addresses() if item.name == record.source), None)
        if address is None:
            return Place(record.latitude, record.longitude, record.project)
        position, manifest = await asyncio.gather(self._position(record, address), self._manifest(record, address))
        if position is None and manifest.latitude is not None and manifest.longitude is not None:
            position = manifest.latitude, manifest.longitude
        latitude, longitude = position or (None, None)
        return Place(latitude, longitude, manifest.project, manifest.address)

    async def _position(self, record: ImageRecord, address: SourceAddress) -> tuple[float, float] | None:
        kind, node = ("vsn", record.vsn) if record.vsn else ("node", record.node)
        if not _NODE_NAME.fullmatch(node):
            return None
        window = record.captured_ns // WINDOW_NS
        track = await self._tracks.get(
            (address.name, kind, node, str(window)),
            lambda: self._ask_track(address, kind, node, window * WINDOW_NS),
            # For as long as a window lasts: positions that arrive late are found by the next question.
            WINDOW_NS / 1e9,
            lambda track: (
                track.moves
                and track.until_ns < record.captured_ns
                and time_ns() - track.until_ns > MOVING_SECONDS * 1e9
            ),
        )
        return track.at(record.captured_ns)

    async def _manifest(self, record: ImageRecord, address: SourceAddress) -> Manifest:
        if not _NODE_NAME.fullmatch(record.vsn):
            return Manifest()
        return await self._manifests.get(
            (address.name, record.vsn), lambda: self._ask_manifest(address, record.vsn), self._manifest_ttl
        )

    async def _ask_track(self, address: SourceAddress, kind: str, node: str, window_start: int) -> Track:
        now = time_ns()
        body = {
            "start": query_time(window_start - WINDOW_NS),
            "end": query_time(window_start + 2 * WINDOW_NS),
            "filter": {kind: node, "name": "sys.gps.lat|sys.gps.lon"},
        }
        positions = _Positions(address)
        try:
            await query(self._open(), address, body, self._timeout, positions.add)
        except WeavloaderError as error:
            _failed("position", node, error)
            raise
        points = positions.points()
        moves = _moves(points)
        return Track(_thinned(points) if moves else points[len(points) // 2 :][:1], now, moves)

    async def _ask_manifest(self, address: SourceAddress, vsn: str) -> Manifest:
        url = f"{address.manifest_url.rstrip('/')}/{quote(vsn)}/"
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._open().get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
            ):
                if response.status == 404:
                    return Manifest()
                if response.status != 200:
                    raise PartUnavailable(address.name, f"{shown(url)} answers with status {response.status}")
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > _LARGEST_MANIFEST:
                        raise PartUnavailable(address.name, f"{shown(url)} is too large for a manifest")
            manifest = parse_manifest(bytes(body))
        except (*transport.ERRORS, ValueError, WeavloaderError) as error:
            problem = error
            if not isinstance(error, WeavloaderError):
                why = "it is not a JSON object" if isinstance(error, ValueError) else transport.reason(error)
                problem = PartUnavailable(address.name, f"{shown(url)} gives no manifest: {why}")
            _failed("manifest", vsn, problem)
            raise problem from None
        return manifest

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(connector=aiohttp.TCPConnector(limit_per_host=8))
        return self._session


def _failed(asked: str, node: str, error: Exception) -> None:
    log.warning("place_unknown", asked=asked, node=node, error=str(error))


def parse_manifest(body: bytes) -> Manifest:
    """A manifest's place. Nulls and missing fields are allowed; raises ``ValueError`` when it is no JSON object."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")

    def text(name: str) -> str:
        value = document.get(name)
        return value.strip() if isinstance(value, str) else ""

    position = _position(_degrees(document.get("gps_lat"), 90), _degrees(document.get("gps_lon"), 180))
    latitude, longitude = position or (None, None)
    return Manifest(latitude, longitude, text("project"), text("address"))


def _degrees(value: Any, limit: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        degrees = float(value)
    except (ValueError, OverflowError):
        return None
    return degrees if math.isfinite(degrees) and abs(degrees) <= limit else None


def _position(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    """Both, or None: a receiver without a fix reports 0, 0."""
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None
    return latitude, longitude


def _moves(points: Sequence[tuple[int, float, float]]) -> bool:
    """Whether the node was on its way: a receiver that stands still wanders by less."""
    return any(
        max(values) - min(values) > MOVING_DEGREES
        for values in ([point[axis] for point in points] for axis in (1, 2))
        if values
    )


def _thinned(points: Sequence[tuple[int, float, float]]) -> tuple[tuple[int, float, float], ...]:
    """The first point of every few seconds."""
    kept: dict[int, tuple[int, float, float]] = {}
    for point in points:
        kept.setdefault(point[0] // KEPT_NS, point)
    return tuple(kept.values())


@dataclass
class _Positions:
    """Reads the lines of an answer as they come; bad ones are left out."""

    address: SourceAddress
    latitudes: list[tuple[int, float]] = field(default_factory=list)
    longitudes: list[tuple[int, float]] = field(default_factory=list)
    lines: int = 0
    size: int = 0

    def add(self, line: bytes) -> None:
        """Raises ``PartUnavailable`` when the answer is too large."""
        self.lines += 1
        self.size += len(line)
        if self.lines > MOST_LINES or self.size > MOST_BYTES:
            raise PartUnavailable(
                self.address.name, f"{shown(self.address.query_url)} gives too many positions of a node"
            )
        try:
            document = json.loads(line)
            ns = parse_timestamp(document["timestamp"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return
        name, value = document.get("name"), document.get("value")
        if name == "sys.gps.lat" and (degrees := _degrees(value, 90)) is not None:
            self.latitudes.append((ns, degrees))
        elif name == "sys.gps.lon" and (degrees := _degrees(value, 180)) is not None:
            self.longitudes.append((ns, degrees))

    def points(self) -> tuple[tuple[int, float, float], ...]:
        """Each latitude with the longitude that is nearest to it in time, at most a minute away."""
        longitudes, points = sorted(self.longitudes), []
        for ns, latitude in sorted(self.latitudes):
            index = bisect_left(longitudes, (ns,))
            near = [item for item in longitudes[max(index - 1, 0) : index + 1] if abs(item[0] - ns) <= 60 * 10**9]
            if near:
                position = _position(latitude, min(near, key=lambda item: abs(item[0] - ns))[1])
                if position is not None:
                    points.append((ns, *position))
        return tuple(points)
