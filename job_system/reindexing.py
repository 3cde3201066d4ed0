"""A new version of the collection: every stored image with a vector of another model, filled while all goes on.

The objects are copied as they are, in the order of their ids, each with a new vector made of its thumbnail or its
original; what lands meanwhile stands on a list of the ledger's and is copied after. Then both versions are compared by
id, and for a moment no image is taken: what landed last is copied, both are counted, and where they hold as many the
new one is put in use, in one step for all who look. The old one stays as it is.

Everything can be done again: objects are written under their own ids, the place is kept after each page, and whoever
is killed anywhere goes on there. Until the switch nobody but this reads or counts the new version.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from errors import ConfigurationError, WeavloaderError
from job_system.forgetting import finish
from job_system.stillness import ADOPTION, alone, maintained, stilled
from job_system.vectors_anew import ALONE, Making
from ledger import Ledger
from ledger.reindexing import COMPARING, COPYING, SWITCHED, Reindex
from processing import CAPTION_ALONE
from records import EMBEDDING

if TYPE_CHECKING:
    from client import WeaviateStore
    from store.versioning import WholeObject
    from store.versions import Version

#: Objects of one page, each with its thumbnail.
PAGE = 32
#: Most images that could not be made which are named.
MOST_MISSING = 1000
#: What may be left to copy when all is to stand still, and the seconds after which it may be more: images may land more
#: quickly than they are copied.
FEW, CATCH_UP_SECONDS = 64, 300.0
#: Times that the versions are compared and counted before it is given up.
SWITCH_ATTEMPTS = 5
#: Seconds for which images in work are waited for beyond those of an attempt, those between two attempts at the switch,
#: and those after which it is given up.
REST_SECONDS, BUSY_AGAIN_SECONDS, BUSY_SECONDS = 60.0, 5.0, 1800.0
#: Roles that take leases away which ran out.
SWEEPERS = ("processor", "cleaner")
#: Seconds for which all stands still beyond the time for which others know the version in use.
MARGIN_SECONDS = 0.5

#: Is told the step, how many are done, of how many.
Report = Callable[[str, int, int | None], None]
Say = Callable[[str], None]
T = TypeVar("T")


class NotSwitched(WeavloaderError):
    """The new version does not hold what the old one does, so it was not put in use."""

    default_cause = "not_switched"


class NotWhole(WeavloaderError):
    """The new version is in use, and lacks what landed in the old one all the same."""

    default_cause = "not_whole"


class Cancelled(WeavloaderError):
    """Somebody gave the reindex up."""

    default_cause = "cancelled"


class Reindexer:
    """Brings one reindex to its end, from wherever it is. Belongs to the event loop that store and ports belong to.

    ``seconds`` is for how long others go on with the version that was in use, and ``attempt`` how long one attempt at
    an image may take: all stand still until the longest one has ended.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: WeaviateStore,
        making: Making,
        one: Reindex,
        seconds: float,
        attempt: float,
        *,
        report: Report = lambda step, done, total: None,
        say: Say = lambda line: None,
    ) -> None:
        self._ledger, self._store, self._making = ledger, store, making
        self._seconds, self._rest, self._report, self._say = seconds, attempt + REST_SECONDS, report, say
        self.one = one
        self._old = replace(
            store.version_of(one.old_number, one.old_embedder, one.old_embedder_version), collection=one.old
        )
        self._new = replace(store.version_of(one.number, one.embedder, one.embedder_version), collection=one.collection)

    async def run(self) -> Reindex:
        """Fill the new version and put it in use; how it ended.

        Raises ``NotSwitched`` where it does not hold what the old one does, ``WeavloaderError`` where it was cancelled
        meanwhile or others do not come to rest, and ``PartUnavailable``: the same command goes on then.
        """
        if await self._is_in_use():  # killed right after the switch
            return await self._settle()
        await self._store.tell_apart(self._old)
        await self._store.make(self._new)
        if self.one.state == COPYING:
            await self._go_through()
        held = ""
        for _ in range(SWITCH_ATTEMPTS):
            await self._compare()
            counts = await self._switched_at_rest()
            if counts is None:
                return await self._settle()
            held = f"{self.one.old} holds {counts[0]} objects and {self.one.collection} {counts[1]}"
            self._say(f"{held}: comparing again")
        raise self._not_switched(held)

    # --- copying -----------------------------------------------------------------------------------------------------

    async def _go_through(self) -> None:
        """Copy all objects that were there at the beginning, and after each page some of what landed meanwhile."""
        while await self._making.patiently(self._page):
            await self._making.patiently(self._catch_up)
        self._keep(state=COMPARING)

    async def _page(self) -> bool:
        page = await self._store.whole_page(self._old, self.one.after, PAGE)
        if not page:
            return False
        await self._copy(page, self._making.width())
        gone_by = self.one.gone_by + len(page)
        self._keep(after=page[-1].id, gone_by=gone_by)
        self._report("objects embedded anew", gone_by, max(self.one.total, gone_by))
        return True

    async def _catch_up(self, width: int | None = None) -> int:
        """Copy some of what landed meanwhile; how many they were."""
        entries = self._ledger.reindexing.changed(PAGE)
        if entries:
            await self._mirror([image for image, _ in entries], width)
            self._ledger.reindexing.copied(entries)
            self._keep()
        return len(entries)

    async def _catch_up_until_few(self) -> None:
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while (waiting := self._ledger.reindexing.waiting()) > FEW and time.monotonic() < deadline:
            self._report("images that landed meanwhile, left to copy", waiting, None)
            await self._making.patiently(lambda: self._catch_up(ALONE))

    async def _mirror(self, ids: Sequence[str], width: int | None = None) -> None:
        """Have the new version hold what the old one does of these ids.

        Raises ``WeavloaderError`` where it is in use: it has what the old one never had then.
        """
        if await self._store.is_in_use(self._new):
            raise WeavloaderError(f"{self.one.collection} is in use already: the same command ends what is left to do")
        found = await self._store.whole_objects(self._old, ids)
        await self._copy(list(found.values()), width or self._making.width())
        gone = [image for image in ids if image not in found]
        await self._store.remove(self._new, gone)
        missing = {image: why for image, why in self.one.missing.items() if image not in gone}
        self.one = replace(self.one, removed=self.one.removed + len(gone), missing=missing)

    async def _copy(self, objects: Sequence[WholeObject], width: int) -> None:
        vectors = await self._making.vectors(objects, width)
        failed = {image: made for image, made in vectors.items() if isinstance(made, WeavloaderError)}
        ready = {
            one.id: (one.id, {**one.properties, **self._made(made[1])}, made[0])
            for one in objects
            if not isinstance(made := vectors[one.id], WeavloaderError)
        }
        failed |= await self._store.put(self._new, list(ready.values()))
        ready = {image: it for image, it in ready.items() if image not in failed}
        missing = {image: why for image, why in self.one.missing.items() if image not in ready}
        for image, error in failed.items():
            if image in missing or len(missing) < MOST_MISSING:
                missing[image] = str(error)
        of_captions = sum(properties["made_from"] == CAPTION_ALONE for _, properties, _ in ready.values())
        self.one = replace(
            self.one,
            copied=self.one.copied + len(ready),
            of_captions=self.one.of_captions + of_captions,
            of_thumbnails=self.one.of_thumbnails + self._making.stood_in(vectors),
            missing=missing,
        )
        await self._leave_forgotten(list(ready))

    async def _leave_forgotten(self, ids: Sequence[str]) -> None:
        """Images that were forgotten while they were copied: their tombstone comes before their deletion, so it is seen
        here.
        """
        standings = self._ledger.standings(ids)
        await self._store.remove(self._new, [image for image, now in standings.items() if now.state == "forgotten"])

    def _made(self, made_from: str) -> dict[str, str]:
        """What an object tells of its new vector."""
        return {
            "embedding_model": self.one.embedder,
            "embedding_model_version": self.one.embedder_version,
            "redone": EMBEDDING,
            "made_from": made_from,
        }

    def _keep(self, **changes: Any) -> None:
        self.one = replace(self.one, **changes)
        if not self._ledger.reindexing.keep(self.one):
            raise Cancelled(f"the reindex into {self.one.collection} was cancelled meanwhile")

    # --- switching ---------------------------------------------------------------------------------------------------

    async def _compare(self) -> None:
        """Have both versions hold the same ids."""
        apart: list[str] = []
        compared = 0
        async with aclosing(self._ids(self._old)) as olds, aclosing(self._ids(self._new)) as news:
            old, new = await anext(olds, None), await anext(news, None)
            while old is not None or new is not None:
                least = min(image for image in (old, new) if image is not None)
                if old != new:
                    apart.append(least)
                if len(apart) >= PAGE:
                    await self._mirrored(apart)
                    apart = []
                old = await anext(olds, None) if old == least else old
                new = await anext(news, None) if new == least else new
                compared += 1
                if compared % 1000 == 0:
                    self._report("ids compared", compared, max(self.one.gone_by, compared))
        await self._mirrored(apart)
        # what could not be made and is nowhere any more was forgotten meanwhile
        found = await self._store.whole_objects(self._old, list(self.one.missing)) if self.one.missing else {}
        self._keep(missing={image: why for image, why in self.one.missing.items() if image in found})

    async def _ids(self, version: Version) -> AsyncGenerator[str]:
        after = ""
        while page := await self._making.patiently(partial(self._store.ids_of, version, after)):
            for image in page:
                yield image
            after = page[-1]

    async def _mirrored(self, ids: Sequence[str]) -> None:
        if ids:
            await self._making.patiently(partial(self._mirror, ids))

    async def _switched_at_rest(self) -> tuple[int, int] | None:
        """``_switch``, tried again while somebody else's work does not end."""

        async def switched() -> tuple[int, int] | None:
            if await self._is_in_use():  # all was done but the answer was lost, or a lock could not be given back
                return None
            self._refuse_missing()
            await self._catch_up_until_few()
            return await self._switch()

        return await self._until_at_rest(switched, "switch")

    async def _until_at_rest(self, what: Callable[[], Awaitable[T]], named: str) -> T:
        """Do it, and again while somebody else's work does not end."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return await what()
            except (NotSwitched, NotWhole, Cancelled, ConfigurationError):
                raise
            except WeavloaderError as error:
                if time.monotonic() > deadline:
                    raise
                self._say(f"waiting to {named}: {error}")
            await asyncio.sleep(BUSY_AGAIN_SECONDS)

    @asynccontextmanager
    async def _at_rest(self) -> AsyncGenerator[None]:
        """Nobody takes an image meanwhile, and no image is in work."""
        with (
            maintained(self._ledger),
            alone(self._ledger, ADOPTION, "an adoption of another collection"),
            stilled(self._ledger, self._report, self._rest),
        ):
            await self._nobody_holds_a_lease()
            yield

    async def _is_in_use(self) -> bool:
        """Whether the new version is in use, by the server itself."""
        return await self._making.patiently(partial(self._store.is_in_use, self._new))

    def _refuse_missing(self) -> None:
        if self.one.missing:
            raise self._not_switched("")

    async def _switch(self) -> tuple[int, int] | None:
        """Put the new version in use where it holds as many objects as the old one while nothing lands; else how many
        each holds. Others stand still until all know of it.
        """
        await finish(self._ledger.forgetting, self._store)  # it may be much, and others stand still from here on
        async with self._at_rest():
            while await self._catch_up(ALONE):
                pass
            await finish(self._ledger.forgetting, self._store)
            self._refuse_missing()
            counts = await self._store.count_of(self._old), await self._store.count_of(self._new)
            if counts[0] != counts[1]:
                return counts
            self._keep(state=COMPARING)  # unless it was cancelled
            # asked until there is an answer: one that is late must not come after others have gone on
            await self._making.patiently(partial(self._store.put_in_use, self.one.collection))
            await asyncio.sleep(self._seconds + MARGIN_SECONDS)  # none is made again in the old version meanwhile
        return None

    async def _nobody_holds_a_lease(self) -> None:
        """Wait until a sweep has taken those that ran out as well: a holder that was only late could land by one."""
        deadline = time.monotonic() + REST_SECONDS
        while self._ledger.audit().leased and any(role.startswith(SWEEPERS) for role in self._ledger.roles()):
            if time.monotonic() > deadline:
                raise WeavloaderError("leases of workers that died are not swept: look at the cleaner's log")
            await asyncio.sleep(0.2)

    async def _settle(self) -> Reindex:
        """After the switch: what landed in the old version all the same is copied, and it is over.

        Others may have begun with the old version: where the command died while all stood still, or its locks ran out.
        None does so any more after a while, and what is in work then comes to its end first.
        """
        await asyncio.sleep(self._seconds + MARGIN_SECONDS)
        return await self._until_at_rest(self._end, "end")

    async def _end(self) -> Reindex:
        self.one = replace(self.one, missing={})
        async with self._at_rest():
            while entries := self._ledger.reindexing.changed(PAGE):
                ids = [image for image, _ in entries]
                there = set(await self._store.whole_objects(self._new, ids))
                found = await self._store.whole_objects(self._old, [image for image in ids if image not in there])
                await self._copy(list(found.values()), self._making.width())
                if self.one.missing:
                    self._keep()
                    raise NotWhole(
                        f"{self.one.collection} is in use, and of what landed in {self.one.old} last"
                        f" {self._missing()}; the same command ends it then"
                    )
                self._ledger.reindexing.copied(entries)
            self.one = self.one.over(SWITCHED)
            self._ledger.reindexing.end(self.one)
        return self.one

    def _not_switched(self, why: str) -> NotSwitched:
        return NotSwitched(
            f"not switched: {self._missing() if self.one.missing else why}; {self.one.old} is in use as before, and the"
            " same command goes on from here"
        )

    def _missing(self) -> str:
        """How many images could not be embedded, and why."""
        missing = self.one.missing
        named = "; ".join(f"{image}: {told}" for image, told in list(missing.items())[:3])
        more = f" and {len(missing) - 3} more (`reindex --status --json` lists them)" if len(missing) > 3 else ""
        count = f"{len(missing)} images could not be embedded or stored"
        return f"{count} ({named}{more}): mend that, or `python main.py forget` them"
