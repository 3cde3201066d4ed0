"""The second lane: what backfills bring is queued only as fast as it is worked off, so that live pictures go first.

A backfill's images are ordinary images of the ledger and of the one queue; the lane is how many of them there are at a
time. The moderator's thread reads the source's past page by page and fills the lane up ten times a second. While no
live pictures come that is most of the places of the living processors, and what lands until the next look. While they
come it is what lands in a fraction of a second, and while they are queued nothing is added. Where a backfill's images
have to wait on their way they let the others go first (``records.giving_way``).

Everything that must be known stands in the ledger, a page's end only once all of its images do: whoever is killed at
any line, the next one reads the same page again and finds what was queued.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from celery import Celery

import logs
from errors import WeavloaderError
from inference.calibration import current
from job_system.known_sources import KnownSources
from job_system.past import BATCH, Past, Portion
from job_system.publish import publish_records
from ledger import Backfill, BackfillLook, Ledger
from metrics import recorder
from records import ImageRecord, SourceAddress
from settings import Settings

log = logs.get(__name__)

#: Seconds between two looks while images of a backfill are on their way, and otherwise.
LOOK_SECONDS = 0.1
IDLE_SECONDS = 1.0
#: As many as land in this time are queued beside those that have a place: none is free until the next look, also where
#: that is late.
REFILL_SECONDS = 0.4
#: Seconds without a live picture after which none is expected: then the lane may be wide.
QUIET_SECONDS = 60.0
#: While they come, as many images of backfills are on their way as the installation lands in this time at its best.
BESIDE_SECONDS = 0.075
#: One of so many places of a processor is left to live pictures.
FREE_SHARE = 8
#: Images of backfills that may wait for their next attempt, as while a part is away: then no more are queued.
MOST_WAITING = 500
#: Seconds for which it is known which sources and processors there are.
FRESH_SECONDS = 3.0
#: Seconds after which a page that could not be read is asked for again.
AGAIN_SECONDS = 5.0
#: Seconds of which the pace is taken.
PACE_SECONDS = 5.0
#: Seconds for which it is known which images of an hour were chosen.
PLACES_SECONDS = 24 * 3600.0
LOCK, LOCK_SECONDS = "backfill", 15.0


def keep_backfilling(app: Celery, settings: Settings, ended: threading.Event) -> None:
    """Work on the backfills until it ends; of several moderators one does at a time."""
    with Ledger(settings.jobs) as ledger:
        while not ended.is_set():
            try:
                if ledger.backfills.any_active():
                    with ledger.lock(LOCK, LOCK_SECONDS) as mine:
                        if mine:
                            work_off(app, settings, ledger, ended)
            except WeavloaderError as error:
                log.warning("backfills wait", error=str(error))
            except Exception as error:  # one that nobody knows must not end all backfills
                log.error("backfills wait after an unexpected error", exc_info=error)
            ended.wait(IDLE_SECONDS)


def work_off(app: Celery, settings: Settings, ledger: Ledger, ended: threading.Event) -> None:
    """Work on the backfills until all are over or it ends. Raises as the ledger does, and where the broker is away."""
    # not the app's shared connections: a pool's child must not be forked while this thread holds their locks
    with app.connection_for_write() as connection:
        producer = app.amqp.Producer(connection, auto_declare=False)
        lane = Lane(settings, ledger, lambda records: publish_records(app, records, producer))
        while not ended.is_set():
            look = ledger.backfills.look()
            if not look.backfills:
                return
            fed = lane.fill(look)
            ended.wait(LOOK_SECONDS if fed or look.on_way("queued", "leased") else IDLE_SECONDS)


class Lane:
    """Fills the lane up. Belongs to one thread."""

    def __init__(self, settings: Settings, ledger: Ledger, publish: Callable[[Sequence[ImageRecord]], None]) -> None:
        self._settings, self._ledger, self._publish = settings, ledger, publish
        self._sources = KnownSources(settings, ledger)
        self._pages: dict[str, Pages] = {}
        self._looked_at = float("-inf")
        self._addresses: Mapping[str, SourceAddress] = {}
        self._paused: Mapping[str, str] = {}
        self._processors = 1
        self._ended: deque[tuple[float, int]] = deque()
        self._best = 0.0
        self._live_at = float("-inf")

    def fill(self, look: BackfillLook) -> int:
        """Queue what there is room for, of the oldest backfill first; how many images that were."""
        self._look_round()
        running = [one for one in look.backfills if one.state == "running" and one.cursor_ns < one.past.until_ns]
        self._pages = {one.id: self._pages[one.id] for one in running if one.id in self._pages}
        room, fed = self._room(look), 0
        for one in running:
            if why := self._held(one, look):
                self._ledger.backfills.hold(one, why)
                continue
            fed += self._feed(one, room - fed)
            if fed >= room:
                break
        return fed

    def _look_round(self) -> None:
        """See which sources and processors there are, now and then."""
        if time.monotonic() - self._looked_at < FRESH_SECONDS:
            return
        self._addresses = {address.name: address for address in self._sources.read()}
        self._paused = self._ledger.sources.paused()
        processors = [name for name in self._ledger.roles() if name.startswith("processor@")]
        self._processors = max(1, len(processors))  # with none the first is given something to begin with
        if made := current(self._ledger.calibration(), self._settings.triton):
            self._best = max(self._best, made.images_per_second)
        self._looked_at = time.monotonic()

    def _room(self, look: BackfillLook) -> int:
        """How many images more there may be on their way."""
        pace = self._pace(sum(one.landed + one.dead + one.skipped for one in look.backfills))
        self._best = max(self._best, pace)
        if look.others_queued or look.others_leased:
            self._live_at = time.monotonic()
        if look.others_queued or look.on_way("waiting") >= MOST_WAITING:
            return 0
        in_flight = self._settings.jobs.in_flight
        places = self._processors * max(1, in_flight - max(1, in_flight // FREE_SHARE))
        most = places + round(pace * REFILL_SECONDS)
        if time.monotonic() - self._live_at < QUIET_SECONDS:
            most = min(places, max(self._processors, round(self._best * BESIDE_SECONDS)))
        return max(0, most - look.on_way("queued", "leased"))

    def _pace(self, ended: int) -> float:
        """Images of backfills that end per second, of how many have until now."""
        now = time.monotonic()
        self._ended.append((now, ended))
        while now - self._ended[0][0] > PACE_SECONDS:
            self._ended.popleft()
        then, before = self._ended[0]
        return max(0, ended - before) / (now - then) if now > then else 0.0

    def _held(self, one: Backfill, look: BackfillLook) -> str:
        """Why nothing is queued of a backfill now; '' where something may be."""
        source, high_water = one.past.source, self._settings.monitor.high_water
        if source not in self._addresses:
            return f"the source {source} is not there now"
        if source in self._paused:
            return f"the source is paused: {self._paused[source]}"
        if high_water and look.pending >= high_water:
            return f"backlog of {look.pending} images, WEAVLOADER_HIGH_WATER is {high_water}"
        return ""

    def _feed(self, one: Backfill, room: int) -> int:
        """Queue so many images of a backfill, as far as they are read; how many that were."""
        pages = self._pages.get(one.id)
        if pages is None:
            pages = self._pages[one.id] = Pages(self._reader(one), one.cursor_ns, one.past.until_ns)
        fed = 0
        while True:
            try:
                portion = pages.portion()
            except WeavloaderError as error:
                self._ledger.backfills.hold(one, str(error))
                return fed
            if portion is None:
                return fed
            self._ledger.backfills.hold(one, "")
            self._leave_out(one, pages, portion)
            more = self._queue(one, pages, portion, room - fed)
            if more is None:  # paused or cancelled meanwhile, or somebody else is at it
                del self._pages[one.id]
                return fed
            fed += more
            if pages.at < len(portion.records):
                return fed
            if not self._ledger.backfills.turn(one.id, pages.cursor_ns, portion.until_ns, portion.found):
                del self._pages[one.id]
                return fed
            pages.turn()

    def _leave_out(self, one: Backfill, pages: Pages, portion: Portion) -> None:
        if pages.is_new:
            for left_out in self._ledger.backfills.leave_out(one.id, portion.left_out):
                recorder.image_skipped(left_out)
            pages.is_new = False

    def _queue(self, one: Backfill, pages: Pages, portion: Portion, room: int) -> int | None:
        """Queue so many images of the portion, from where it is on; None where the backfill is not running."""
        fed = 0
        while pages.at < len(portion.records):
            batch = portion.records[pages.at : pages.at + BATCH]
            filled = self._ledger.backfills.fill(one.id, batch, room - fed)
            if filled is None:
                return None
            self._publish(filled.fresh)
            for record in filled.fresh:
                recorder.image_received(record)
            pages.at += filled.looked_at
            fed += len(filled.fresh)
            if filled.looked_at < len(batch):
                break
        return fed

    def _reader(self, one: Backfill) -> Callable[[int], Portion]:
        ledger, address = self._ledger, self._addresses[one.past.source]
        past = Past(self._settings, ledger, lambda wanted, most: ledger.places(wanted, most, PLACES_SECONDS))
        return lambda start_ns: asyncio.run(past.portion(address, one.past, start_ns))


class Pages:
    """What is read of a backfill: the portion that is being queued, and the next one meanwhile."""

    def __init__(self, read: Callable[[int], Portion], cursor_ns: int, until_ns: int) -> None:
        self._read, self._until_ns = read, until_ns
        self.cursor_ns = cursor_ns
        #: How far the portion has been looked at, and whether nothing of it has been.
        self.at, self.is_new = 0, True
        self._portion: Portion | None = None
        self._next: Future[Portion] | None = None
        self._not_before = float("-inf")

    def portion(self) -> Portion | None:
        """What is to be queued now; None while it is being read, and at the end. Raises what reading it raised."""
        if self._portion is None:
            self._begin(self.cursor_ns)
            if self._next is None or not self._next.done():
                return None
            done, self._next = self._next, None
            try:
                self._portion = done.result()
            except Exception:
                self._not_before = time.monotonic() + AGAIN_SECONDS
                raise
            self._begin(self._portion.until_ns)
        return self._portion

    def turn(self) -> None:
        """The portion is worked off."""
        assert self._portion is not None
        self.cursor_ns, self.at, self.is_new = self._portion.until_ns, 0, True
        self._portion = None

    def _begin(self, start_ns: int) -> None:
        """Read what begins there in a thread, which a process that ends does not wait for."""
        if self._next is not None or start_ns >= self._until_ns or time.monotonic() < self._not_before:
            return
        self._next = reading = Future[Portion]()

        def read() -> None:
            try:
                reading.set_result(self._read(start_ns))
            except BaseException as error:  # noqa: BLE001 - whoever asks for the portion raises it
                reading.set_exception(error)

        threading.Thread(target=read, name="past", daemon=True).start()
