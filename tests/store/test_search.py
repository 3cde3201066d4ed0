"""What has landed is found by its words, its vector, and narrowed exactly."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from client import WeaviateStore
from records import Place, SearchFilters, SearchResult
from store.places import EARTH_KM, box, distance_km
from tests.store.images import DIMENSIONS, START_NS, direction, image

NOTHING = direction(999)


def numbers(results: list[SearchResult]) -> list[int]:
    return [int(one.filename.removesuffix(".jpg")) for one in results]


async def test_an_empty_collection_finds_nothing(store: WeaviateStore):
    assert await store.search("anything", NOTHING) == []
    assert await store.similar(NOTHING) == []
    assert await store.get(str(uuid.uuid4())) is None
    assert await store.vector_of(str(uuid.uuid4())) is None
    assert await store.count() == 0


async def test_a_word_of_the_caption_finds_its_image_first(store: WeaviateStore):
    for number, caption in enumerate(["a cup of coffee", "a rocket on its pad", "a cat"]):
        await store.land(image(number, caption=caption))
    assert numbers(await store.search("rocket", NOTHING, alpha=0))[:1] == [1]


async def test_a_keyword_finds_its_image(store: WeaviateStore):
    await store.land(image(0, keywords=("bicycle",)))
    await store.land(image(1, keywords=("rainy night",)))
    assert numbers(await store.search("night", NOTHING, alpha=0)) == [1]


@pytest.mark.parametrize("field", ["camera", "host", "job", "vsn", "plugin", "zone"])
async def test_the_keyword_half_reads_the_contracts_properties(store: WeaviateStore, field: str):
    await store.land(image(0))
    await store.land(image(1, **{field: "zebra"}))
    assert numbers(await store.search("Zebra", NOTHING, alpha=0)) == [1]


@pytest.mark.parametrize("place", [Place(project="zebra"), Place(address="12 Zebra Road")])
async def test_the_keyword_half_reads_project_and_address(store: WeaviateStore, place: Place):
    await store.land(image(0))
    await store.land(image(1, place=place))
    assert numbers(await store.search("zebra", NOTHING, alpha=0)) == [1]


async def test_alpha_1_ranks_by_the_vector_alone(store: WeaviateStore):
    for number in range(10):
        await store.land(image(number, caption="rocket" if number == 3 else "street"))
    assert numbers(await store.search("rocket", direction(7), alpha=1))[0] == 7
    assert numbers(await store.search("rocket", direction(7), alpha=0))[0] == 3


async def test_both_halves_add_up(store: WeaviateStore):
    for number in range(10):
        await store.land(image(number, caption="rocket" if number in (3, 7) else "street"))
    best = (await store.search("rocket", direction(7)))[0]
    assert numbers([best]) == [7]
    assert best.score == pytest.approx(1.0, abs=0.01)


async def test_results_are_ranked_and_limited(store: WeaviateStore):
    for number in range(30):
        await store.land(image(number))
    results = await store.search("street", direction(3), limit=7)
    assert len(results) == 7
    assert [one.score for one in results] == sorted((one.score for one in results), reverse=True)
    assert len(await store.search("street", direction(3))) == 25
    assert await store.search("street", direction(3), limit=0) == []


async def test_the_sources_exact_time_comes_back(store: WeaviateStore):
    await store.land(image(1))
    (found,) = await store.search("street", direction(1))
    assert found.captured_at == image(1).record.timestamp == "2025-12-06T05:46:41.820981933Z"
    assert found.to_json()["captured_at"] == "2025-12-06T05:46:41.820981933Z"


@pytest.mark.parametrize(
    ("field", "wanted", "other"),
    [
        ("vsn", "W02", "W02F"),
        ("vsn", "w02f", "W02"),
        ("camera", "top", "top_camera"),
        ("camera", "TOP_CAMERA", "top"),
        ("camera", "the", "the camera"),
        ("camera", "-", "--"),
        ("node", "000048B02D15BDC2", "000048b02d15bdc3"),
    ],
)
async def test_a_filter_means_the_whole_value_whatever_the_case(
    store: WeaviateStore, field: str, wanted: str, other: str
):
    exactly = {"vsn": "W02F", "camera": "top_camera", "node": "000048b02d15bdc2"}[field]
    value = exactly if wanted.lower() == exactly.lower() else wanted
    await store.land(image(0, **{field: other}))
    await store.land(image(1, **{field: value}))
    for results in (
        await store.search("street", direction(0), filters=SearchFilters(**{field: wanted})),  # type: ignore[arg-type]
        await store.similar(direction(0), filters=SearchFilters(**{field: wanted})),  # type: ignore[arg-type]
    ):
        assert numbers(results) == [1]


async def test_a_project_is_filtered(store: WeaviateStore):
    await store.land(image(0, place=Place(project="SAGE")))
    await store.land(image(1, place=Place(project="CROCUS Urban")))
    await store.land(image(2, place=Place(project="Urban")))
    assert numbers(await store.search("street", NOTHING, filters=SearchFilters(project="crocus urban"))) == [1]
    assert numbers(await store.search("street", NOTHING, filters=SearchFilters(project="urban"))) == [2]


async def test_times_are_filtered_at_both_ends(store: WeaviateStore):
    for number in range(6):
        await store.land(image(number))
    start = datetime.fromtimestamp(START_NS // 10**9, UTC)
    filters = SearchFilters(since=start + timedelta(seconds=2), until=start + timedelta(seconds=4))
    assert sorted(numbers(await store.search("street", NOTHING, filters=filters))) == [2, 3]
    exactly = SearchFilters(since=image(5).record.captured_at)
    assert numbers(await store.search("street", NOTHING, filters=exactly)) == [5]
    naive = SearchFilters(until=(start + timedelta(seconds=1)).replace(tzinfo=None))
    assert numbers(await store.search("street", NOTHING, filters=naive)) == [0]


async def test_near_means_the_true_distance_not_the_box(store: WeaviateStore):
    """Places in the corners of the box around the circle are not near."""
    corner = 0.009 * 0.9  # 0.009 degrees of latitude are 1 km
    for number in range(40):
        await store.land(image(number, place=Place(corner, corner)))
    await store.land(image(40, place=Place(0.0, 0.0085)))
    await store.land(image(41, place=Place()))
    results = await store.search("street", NOTHING, filters=SearchFilters(near=(0.0, 0.0, 1.0)), limit=1)
    assert numbers(results) == [40]
    assert numbers(await store.similar(NOTHING, filters=SearchFilters(near=(0.0, 0.0, 1.0)), limit=5)) == [40]


async def test_near_crosses_the_180th_meridian(store: WeaviateStore):
    await store.land(image(0, place=Place(10.0, 179.99)))
    await store.land(image(1, place=Place(10.0, -179.99)))
    await store.land(image(2, place=Place(10.0, 0.0)))
    results = await store.search("street", NOTHING, filters=SearchFilters(near=(10.0, 179.995, 5.0)))
    assert sorted(numbers(results)) == [0, 1]


@pytest.mark.parametrize(
    ("box", "wanted"),
    [((40, -88, 42, -87), [0]), ((9, 179, 11, -179), [1, 2]), ((9, -180, 11, 180), [1, 2]), ((-1, -1, 1, 1), [])],
)
async def test_a_box_is_filtered_by_its_sides(
    store: WeaviateStore, box: tuple[float, float, float, float], wanted: list[int]
):
    await store.land(image(0))
    await store.land(image(1, place=Place(10.0, 179.99)))
    await store.land(image(2, place=Place(10.0, -179.99)))
    await store.land(image(3, place=Place()))
    found = await store.search("street", NOTHING, filters=SearchFilters(box=box))
    assert sorted(numbers(found)) == wanted


async def test_denied_nodes_and_others_than_the_only_ones_are_left_out(store: WeaviateStore):
    for number, vsn in enumerate(["W02F", "W030", "", "W03"]):
        await store.land(image(number, vsn=vsn, node=f"0000{number}"))
    for filters, wanted in (
        (SearchFilters(denied=("w02f", "00002")), [1, 3]),
        (SearchFilters(only=("W03", "00001")), [1, 3]),
        (SearchFilters(only=("W03", "W030"), denied=("w03",)), [1]),
    ):
        assert sorted(numbers(await store.search("street", NOTHING, filters=filters))) == wanted
        assert sorted(numbers(await store.similar(NOTHING, filters=filters))) == wanted


async def test_a_hit_tells_what_each_half_gave(store: WeaviateStore):
    for number in range(10):
        await store.land(image(number, caption="rocket" if number in (3, 7) else "street"))
    best = (await store.search_hits("rocket", direction(7), 0.3, SearchFilters(), 5, vectors=True))[0]
    assert (best.keyword_score, best.vector_score) == (pytest.approx(0.7, abs=0.01), pytest.approx(0.3, abs=0.01))
    assert best.vector is not None
    assert float(best.vector @ direction(7)) == pytest.approx(1, abs=0.01)
    plain = (await store.search_hits("rocket", direction(7), 0.0, SearchFilters(), 1))[0]
    assert (plain.keyword_score, plain.vector_score, plain.vector) == (pytest.approx(1), 0.0, None)


async def test_hits_of_ids_come_in_their_order(store: WeaviateStore):
    for number in range(3):
        await store.land(image(number))
    ids = [image(number).record.id for number in (2, 0)]
    assert numbers([hit.result for hit in await store.hits([ids[0].upper(), "none", str(uuid.uuid4()), *ids])]) == [
        2,
        0,
    ]
    assert await store.hits([]) == []


async def test_a_thumbnail_comes_with_its_node(store: WeaviateStore):
    await store.land(image(1))
    assert await store.thumbnail(image(1).record.id) == (b"\xff\xd8 a thumbnail", "W02F", "000048b02d15bdc2")
    assert await store.thumbnail(str(uuid.uuid4())) is None


async def test_filters_add_up(store: WeaviateStore):
    for number in range(8):
        await store.land(image(number, vsn="W02F" if number % 2 else "W030", place=Place(number / 10, 0.0)))
    filters = SearchFilters(vsn="W02F", near=(0.0, 0.0, 40.0))
    assert sorted(numbers(await store.search("street", NOTHING, filters=filters))) == [1, 3]


async def test_similar_ranks_by_cosine_and_leaves_the_image_itself_out(store: WeaviateStore):
    base = direction(1)
    for number, share in enumerate((1.0, 0.9, 0.5)):
        other = direction(50)
        mixed = share * base + (1 - share) * other
        await store.land(image(number, vector=(mixed / np.linalg.norm(mixed)).astype(np.float32)))
    own = image(0).record.id
    vector = await store.vector_of(own)
    assert vector is not None
    assert numbers(await store.similar(vector)) == [0, 1, 2]
    results = await store.similar(vector, limit=2, exclude=own)
    assert numbers(results) == [1, 2]
    assert 0 < results[1].score < results[0].score < 1


async def test_a_query_of_another_vector_length_names_the_settings(store: WeaviateStore):
    await store.land(image(1))
    with pytest.raises(Exception, match=r"WEAVLOADER_COLLECTION.*WEAVLOADER_EMBEDDER"):
        await store.search("street", direction(1, DIMENSIONS + 1))


@pytest.mark.parametrize("query", ["", "the", "!!", "\x00", "x" * 5000])
async def test_any_text_is_a_query(store: WeaviateStore, query: str):
    await store.land(image(1))
    assert numbers(await store.search(query, direction(1))) == [1]


async def test_an_id_that_is_no_uuid_is_unknown(store: WeaviateStore):
    assert await store.get("no such thing") is None
    assert await store.vector_of("no such thing") is None


@pytest.mark.parametrize("latitude", [0.0, 41.88, -70.0, 89.9, -90.0])
@pytest.mark.parametrize("longitude", [0.0, -87.6, 179.99, -180.0])
@pytest.mark.parametrize("km", [0.1, 25.0, 3000.0, 20_100.0])
def test_the_box_holds_the_whole_circle(latitude: float, longitude: float, km: float):
    (south, north), ranges = box(latitude, longitude, km)
    random = np.random.default_rng(5)
    for _ in range(200):
        there = float(np.degrees(np.arcsin(random.uniform(-1, 1)))), float(random.uniform(-180, 180))
        if distance_km(latitude, longitude, *there) <= km:
            assert south <= there[0] <= north
            assert any(west <= there[1] <= east for west, east in ranges)
        reach, turn = random.uniform(0, km) / EARTH_KM, random.uniform(0, 2 * np.pi)
        near = latitude + float(np.degrees(reach * np.cos(turn))), longitude + float(np.degrees(reach * np.sin(turn)))
        near = near[0], (near[1] + 180) % 360 - 180
        if abs(near[0]) <= 90 and distance_km(latitude, longitude, *near) <= km:
            assert south <= near[0] <= north
            assert any(west <= near[1] <= east for west, east in ranges)


def test_distances_are_those_of_the_sphere():
    assert distance_km(0, 0, 0, 1) == pytest.approx(111.195, abs=0.01)
    assert distance_km(41.8781, -87.6298, 40.7128, -74.0060) == pytest.approx(1144.3, abs=1)
    assert distance_km(0, 179.5, 0, -179.5) == pytest.approx(111.195, abs=0.01)
    assert distance_km(90, 0, -90, 77) == pytest.approx(np.pi * EARTH_KM)
