"""The checker itself: it believes nobody, so what is planted past the ledger and past the store must show."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import weaviate

from client import WeaviateStore
from ledger import Lease, Ledger
from records import DeadLetter, ImageRecord, IndexedImage
from settings import Settings, Weaviate
from tests.chaos.checker import Tally, check
from tests.chaos.pictures import caption_of, vector_of
from tests.fixtures.redis import Valkey
from tests.store.images import image

COUNT = 12


@dataclass
class World:
    """What the checker looks at, with everything in its right place until a test moves it."""

    settings: Settings
    ledger: Ledger
    attempted: dict[str, int] = field(default_factory=dict)

    def calls(self, model: str) -> Counter[int]:
        return Counter(range(COUNT))


def picture(number: int, **record: str) -> IndexedImage:
    return image(number, caption=caption_of(number), vector=vector_of(number), **record)


def put(section: Weaviate, *images: IndexedImage) -> None:
    async def landed() -> None:
        store = await WeaviateStore.open(section)
        await asyncio.gather(*(store.land(item) for item in images))
        await store.close()

    asyncio.run(landed())


def leased(ledger: Ledger, record: ImageRecord) -> Lease:
    lease = ledger.lease(record)
    assert isinstance(lease, Lease), lease
    return lease


def claim(ledger: Ledger, *images: IndexedImage) -> None:
    """The ledger's word that images have landed."""
    for item in images:
        assert ledger.land(leased(ledger, item.record))


def letter(record: ImageRecord, cause: str) -> DeadLetter:
    return DeadLetter(record.id, record.to_message(), cause, "permanent", cause, "", 1, 1.0)


@pytest.fixture
def world(collection: Weaviate, ledger: Ledger, valkey: Valkey) -> World:
    """A dozen images: ten landed, one dead, one skipped."""
    images = [picture(number) for number in range(COUNT)]
    put(collection, *images[:10])
    claim(ledger, *images[:10])
    dead, skipped = images[10].record, images[11].record
    assert ledger.bury(leased(ledger, dead), letter(dead, "image_empty"))
    assert ledger.skip(leased(ledger, skipped), "protected")
    return World(Settings(weaviate=collection), ledger, {item.record.id: at for at, item in enumerate(images)})


def id_of(number: int) -> str:
    return image(number).record.id


def test_what_is_where_it_should_be_is_clean(world: World) -> None:
    counts = Counter(attempted=12, landed=10, dead=1, skipped=1, model_calls=12)
    assert check(world) == Tally(counts, by_cause={"image_empty": 1})
    assert check(world).clean


def test_an_image_of_which_nobody_knows_is_lost(world: World) -> None:
    world.attempted["00000000-0000-4000-8000-000000000000"] = 99
    tally = check(world)
    assert (tally["lost"], tally["landed"], tally.clean) == (1, 10, False)
    assert "nowhere" in tally.findings[0]


def test_an_image_that_the_ledger_only_claims_to_have_landed_is_lost(world: World) -> None:
    claimed = picture(20)
    claim(world.ledger, claimed)
    world.attempted[claimed.record.id] = 20
    tally = check(world)
    assert (tally["lost"], tally["landed"], tally.difference, tally.clean) == (1, 10, 0, False)


def test_an_object_that_vector_search_does_not_find_is_lost(world: World, sdk: weaviate.WeaviateClient) -> None:
    bare = picture(21).record
    there = sdk.collections.use(world.settings.weaviate.collection)
    there.data.insert({"link": bare.url, "caption": caption_of(21), "timestamp": bare.timestamp}, uuid=bare.id)
    claim(world.ledger, picture(21))
    world.attempted[bare.id] = 21
    tally = check(world)
    assert (tally["lost"], tally["landed"]) == (1, 10)
    assert "vector" in " ".join(tally.findings)


def test_an_object_with_another_pictures_vector_is_lost(world: World) -> None:
    put(world.settings.weaviate, replace(picture(3), vector=vector_of(4711)))
    assert check(world)["lost"] == 1


def test_an_object_with_another_pictures_caption_is_lost_and_the_other_is_there_twice(world: World) -> None:
    put(world.settings.weaviate, image(3, caption=caption_of(4), vector=vector_of(3)))
    tally = check(world)
    assert (tally["lost"], tally["duplicated"]) == (1, 1)


def test_an_object_more_of_one_picture_is_a_duplicate(world: World) -> None:
    put(world.settings.weaviate, picture(3, id="00000000-0000-4000-8000-000000000003"))
    tally = check(world)
    assert (tally["lost"], tally["duplicated"], tally["landed"], tally.clean) == (0, 1, 10, False)
    assert any("stranger" in line for line in tally.findings)


def test_an_image_that_is_both_dead_and_in_the_store_is_there_twice(world: World) -> None:
    put(world.settings.weaviate, picture(10))
    assert check(world)["duplicated"] == 1


def test_a_forgotten_image_is_in_its_place_unless_the_store_has_it_again(world: World) -> None:
    world.ledger.forgetting.begin([id_of(11)], "command", 0)
    tally = check(world)
    assert (tally["forgotten"], tally["skipped"], tally.clean) == (1, 0, True)
    put(world.settings.weaviate, picture(11))
    assert check(world)["duplicated"] == 1


def test_a_dead_image_whose_letter_is_gone_is_lost(world: World, valkey: Valkey) -> None:
    valkey.client.delete(f"dlq:{id_of(10)}")
    tally = check(world)
    assert (tally["lost"], tally["dead"]) == (1, 0)


def test_an_image_on_its_way_is_pending_and_not_lost(world: World) -> None:
    waiting = picture(30)
    world.ledger.record([waiting.record])
    world.attempted[waiting.record.id] = 30
    tally = check(world)
    assert (tally["pending"], tally["lost"], tally.clean) == (1, 0, False)


def test_where_nothing_landed_there_is_no_collection(collection: Weaviate, ledger: Ledger) -> None:
    assert check(World(Settings(weaviate=collection), ledger)) == Tally(Counter(model_calls=COUNT))
