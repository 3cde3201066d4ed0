"""Forgetting by itself: what is too old, and of each node what is more than it may keep, the oldest first.

One process acts at a time, and whoever dies in the middle is followed by the next: what is too much is found anew.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import logs
from job_system.forgetting import Forgetter, finish
from ledger import Ledger
from metrics import recorder
from records import SearchFilters, StoredImage
from sections import STORE_READ_ONLY
from settings import Keep, Settings

if TYPE_CHECKING:
    from client import WeaviateStore

log = logs.get(__name__)

LOCK, LOCK_SECONDS = "retention", 15.0
#: Of all images so many are forgotten at a time while the disk is too full, no fewer than so many, and so many seconds
#: lie between two times: a store gives its disk back some time after. So near the share from which on the store refuses
#: deletions too no hour is waited for while the disk still fills.
DISK_SHARE, DISK_LEAST, DISK_SECONDS, DISK_NEAR = 0.05, 100, 3600.0, 0.03
#: The reasons, which are words of the metrics.
AGE, COUNT, BYTES, DISK = "age", "count", "bytes", "disk"

_EVERYTHING = SearchFilters()


async def retain(
    settings: Settings, ledger: Ledger, disk_used: Callable[[], float] | None = None
) -> dict[str, int | bool]:
    """Forget what the settings do not keep; how many images, by reason. ``{"running": True}`` where another process is
    at it. ``disk_used`` gives the used share of the store's disk: that of the data folder unless given.

    Raises ``PartUnavailable`` when ledger or store are away.
    """
    from client import WeaviateStore

    if not any(settings.keep.model_dump().values()):
        return {}
    with ledger.lock(LOCK, LOCK_SECONDS) as mine:
        if not mine:
            return {"running": True}
        store = WeaviateStore(settings.weaviate, recorder.store_observed)
        try:
            return dict(await Retention(settings, ledger, store, disk_used).run())
        finally:
            await store.close()


class Retention:
    """One turn over what the settings keep."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        store: WeaviateStore,
        disk_used: Callable[[], float] | None = None,
    ) -> None:
        self._settings, self._ledger, self._store = settings, ledger, store
        self._disk_used = disk_used or (lambda: used_share(settings))

    async def run(self) -> Mapping[str, int]:
        """See ``retain``."""
        await finish(self._ledger.forgetting, self._store)
        keep, done = self._settings.keep, dict[str, int]()
        if keep.days:
            oldest = SearchFilters(until=datetime.now(UTC) - timedelta(days=keep.days))
            done[AGE] = await self._forget(AGE, oldest, None)
        if keep.per_node or keep.bytes_per_node:
            done |= await self._by_node(keep)
        if keep.disk:
            done[DISK] = await self._for_disk(keep.disk)
        return done

    async def _by_node(self, keep: Keep) -> dict[str, int]:
        done = {reason: 0 for reason, most in ((COUNT, keep.per_node), (BYTES, keep.bytes_per_node)) if most}
        counts = Counter[str]()
        for vsn, count in (await self._store.count_by_vsn()).items():  # filters do not mind a name's case
            counts[vsn.strip().casefold()] += count
        for vsn, count in counts.items():
            node = SearchFilters(vsn=vsn)
            left = count
            if keep.per_node and left > keep.per_node:
                done[COUNT] += await self._forget(COUNT, node, left - keep.per_node)
                left = keep.per_node
            if keep.bytes_per_node and (size := await self._store.object_bytes(node)):
                fit = int(keep.bytes_per_node / size)
                if left > fit:
                    done[BYTES] += await self._forget(BYTES, node, left - fit)
        return done

    async def _for_disk(self, mark: float) -> int:
        used = self._disk_used()
        if used < mark:
            return 0
        forgetting = self._ledger.forgetting
        due = await asyncio.to_thread(forgetting.first, DISK, DISK_SECONDS)
        if used >= STORE_READ_ONLY - DISK_NEAR:
            due |= await asyncio.to_thread(forgetting.rises, DISK, used, DISK_SECONDS)
        if not due:
            return 0
        most = max(DISK_LEAST, round(DISK_SHARE * await self._store.count()))
        log.warning("disk is too full: the oldest images are forgotten", used=round(used, 3), images=most)
        return await self._forget(DISK, _EVERYTHING, most)

    async def _forget(self, reason: str, filters: SearchFilters, most: int | None) -> int:
        """Forget the oldest images that the filters allow, all or so many; how many there were."""
        forgetter = Forgetter(self._settings, self._ledger, self._store, reason)
        async for page in self._oldest(filters, most):
            await forgetter.stored([one.hit.result.id for one in page], [one.record for one in page if one.record])
        if forgetter.done.new:
            log.info("images forgotten", reason=reason, images=forgetter.done.new, vsn=filters.vsn or "")
        return forgetter.done.new

    async def _oldest(self, filters: SearchFilters, most: int | None) -> AsyncIterator[list[StoredImage]]:
        from store.removing import of_all_time

        async for page in self._store.images(of_all_time(filters)):
            some = page if most is None else page[:most]
            yield some
            if most is not None:
                most -= len(some)
                if most <= 0:
                    return


def used_share(settings: Settings) -> float:
    """The used share of the data folder's disk, as the store counts it."""
    usage: Any = shutil.disk_usage(settings.paths.data)
    return float(usage.used / (usage.total or 1))
