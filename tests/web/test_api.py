"""The API over HTTP: what it finds, what it refuses, and what it says then."""

from __future__ import annotations

from dataclasses import fields
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from records import Place, SearchResult
from sections import Web
from settings import Settings, Weaviate
from tests.fixtures.redis import free_port
from tests.store.images import image
from tests.web.conftest import Land, Open, street
from web.serving import serving

#: What ``search --json`` prints of a result.
RESULT_KEYS = {item.name for item in fields(SearchResult)}


def found(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [result["filename"].removesuffix(".jpg") for result in answer.json()["results"]]


def refused(answer: httpx.Response, status: int) -> str:
    """The one line that it says."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "cause"}
    assert "\n" not in body["error"]
    return str(body["error"])


def test_a_search_answers_the_object_of_the_command_line_and_more(page: httpx.Client, land: Land) -> None:
    land(street(1, caption="a red rocket", keywords=("rocket", "sky")), street(2))
    answer = page.get("/api/search", params={"q": "the rocket", "alpha": 0.3}).json()
    assert (answer["query"], answer["alpha"]) == ("the rocket", 0.3)
    best = answer["results"][0]
    assert set(best) > RESULT_KEYS
    assert best["captured_at"] == "2025-12-06T05:46:41.820981933Z"
    assert best["keyword_score"] == pytest.approx(0.7)
    assert best["keyword_score"] + best["vector_score"] == pytest.approx(best["score"])
    assert best["matched"] == ["rocket"]
    assert (best["project"], best["latitude"]) == ("SAGE", 41.8818)
    assert (best["caption_model"], best["prompt_version"]) == ("light_captioner", "0f3a")
    thumbnail = page.get(best["thumbnail"])
    assert (thumbnail.content, thumbnail.headers["content-type"]) == (b"\xff\xd8 a thumbnail", "image/jpeg")


def test_counts_are_of_all_matches_whatever_is_shown(page: httpx.Client, land: Land) -> None:
    land(*(street(number, camera="top" if number % 3 else "bottom") for number in range(9)))
    counts = page.get("/api/search", params={"q": "street", "limit": 2}).json()["counts"]
    assert counts["matches"] == counts["results"] == 9
    assert counts["camera"] == [{"value": "top", "count": 6}, {"value": "bottom", "count": 3}]
    assert counts["vsn"] == [{"value": "W02F", "count": 9}]
    chicago = {"latitude": 41.88, "longitude": -87.62, "address": "Randolph Street, Chicago", "count": 9}
    assert counts["place"] == [chicago]
    assert sum(bar["count"] for bar in counts["histogram"]) == 9
    bar = counts["histogram"][0]
    within = page.get("/api/search", params={"q": "street", "since": bar["since"], "until": bar["until"]})
    assert len(found(within)) == bar["count"]


def test_pages_follow_each_other_and_the_time_sorts(page: httpx.Client, land: Land) -> None:
    land(*(street(number) for number in range(7)))
    pages = [
        found(page.get("/api/search", params={"q": "street", "sort": "time", "limit": 3, "offset": offset}))
        for offset in (0, 3, 6)
    ]
    assert pages == [["6", "5", "4"], ["3", "2", "1"], ["0"]]


def test_near_identical_pictures_of_one_camera_are_one_result(page: httpx.Client, land: Land) -> None:
    same = street(0).vector
    land(*(street(number, vector=same) for number in range(5)), street(5), street(6, vector=same, camera="other"))
    answer = page.get("/api/search", params={"q": "street", "collapse": "true"}).json()
    stands_for = [len(result["near_identical"]) for result in answer["results"]]
    assert sorted(stands_for) == [0, 0, 4]
    assert (answer["counts"]["matches"], answer["counts"]["results"]) == (7, 3)


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"camera": "TOP_camera"}, ["0", "2"]),
        ({"vsn": "w030"}, ["1"]),
        ({"project": "Crocus"}, ["2"]),
        ({"since": "2025-12-06T05:46:41Z"}, ["1", "2"]),
        ({"until": "2025-12-06T05:46:41Z"}, ["0"]),
        ({"near": "41.88,-87.62,5"}, ["0", "1"]),
        ({"box": "9,179,11,-179"}, ["2"]),
        ({"box": "41,-88,42,-87", "camera": ""}, ["0", "1"]),
    ],
)
def test_a_search_is_narrowed(page: httpx.Client, land: Land, parameters: dict[str, str], wanted: list[str]) -> None:
    land(
        street(0),
        street(1, vsn="W030", camera="other"),
        street(2, place=Place(10.0, 179.5, "CROCUS")),
    )
    assert sorted(found(page.get("/api/search", params={"q": "street", **parameters}))) == wanted


def test_similar_pictures_of_a_stored_one_leave_itself_out(page: httpx.Client, land: Land) -> None:
    land(*(street(number) for number in range(4)))
    answer = page.get("/api/similar", params={"id": image(2).record.id})
    assert sorted(found(answer)) == ["0", "1", "3"]
    assert answer.json()["alpha"] == 1.0


def test_similar_pictures_of_an_uploaded_one(page: httpx.Client, land: Land, photos: Path) -> None:
    land(street(1), street(2))
    picture = (photos / "coffee.png").read_bytes()
    answer = page.post("/api/similar", params={"limit": 1}, files={"picture": ("coffee.png", picture)})
    assert len(found(answer)) == 1
    assert answer.json()["query"] == "coffee.png"


def test_one_image(page: httpx.Client, land: Land) -> None:
    land(street(3, caption="a bridge"))
    own = image(3).record.id
    assert page.get(f"/api/images/{own}").json()["caption"] == "a bridge"
    assert page.get(f"/api/images/{own.upper()}").json()["id"] == own
    assert "there is no image" in refused(page.get("/api/images/nothing"), 404)
    assert "no thumbnail" in refused(page.get("/api/images/nothing/thumbnail"), 404)


def test_an_empty_store_finds_nothing(page: httpx.Client) -> None:
    answer = page.get("/api/search", params={"q": "anything"}).json()
    assert (answer["results"], answer["counts"]["matches"], answer["counts"]["histogram"]) == ([], 0, [])


def test_denied_nodes_are_never_shown(open_page: Open, land: Land) -> None:
    land(street(0), street(1, vsn="W099", node="00004"), street(2, vsn="", node="BAD1"))
    page = open_page(sage={"unallowed_nodes": ("w099", "bad1")})
    answer = page.get("/api/search", params={"q": "street"})
    assert found(answer) == ["0"]
    assert answer.json()["counts"]["vsn"] == [{"value": "W02F", "count": 1}]
    for number in (1, 2):
        denied = image(number).record.id
        for path in (f"/api/images/{denied}", f"/api/images/{denied}/thumbnail", f"/api/similar?id={denied}"):
            refused(page.get(path), 404)
    assert found(page.get("/api/similar", params={"id": image(0).record.id})) == []


def test_readers_see_the_nodes_that_are_theirs_and_the_admin_all(open_page: Open, land: Land) -> None:
    land(street(0), street(1, vsn="W099"), street(2, vsn="", node="0000abc"))
    page = open_page(nodes=("w099", "0000ABC"), admin_token="the admin's word")
    assert sorted(found(page.get("/api/search", params={"q": "street"}))) == ["1", "2"]
    refused(page.get(f"/api/images/{image(0).record.id}"), 404)
    page.headers["Authorization"] = "Bearer the admin's word"
    assert len(found(page.get("/api/search", params={"q": "street"}))) == 3


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/search", "q: Field required"),
        ("/api/search?q=+", "q: "),
        ("/api/search?q=", "q: Field required"),
        (f"/api/search?q={'x' * 2001}", "2000 characters"),
        ("/api/search?q=a&alpha=2", "alpha: "),
        ("/api/search?q=a&alpha=nan", "alpha: "),
        ("/api/search?q=a&limit=0", "limit: "),
        ("/api/search?q=a&limit=1001", "limit: "),
        ("/api/search?q=a&limit=1000&offset=1", "offset and limit reach beyond the best 1000"),
        ("/api/search?q=a&since=yesterday", "'yesterday' is neither a time"),
        ("/api/search?q=a&since=2026-01-02&until=2026-01-01", "turn them round"),
        ("/api/search?q=a&near=1,2", "LAT,LON,KM"),
        ("/api/search?q=a&box=2,0,1,0", "south is below north"),
        ("/api/search?q=a&colour=red", "colour: "),
        ("/api/similar?id=none", "'none' is not an image's id"),
        ("/api/dead-letters?limit=501", "limit: "),
        ("/api/dead-letters?since=soon", "'soon' is neither"),
    ],
)
def test_a_wrong_parameter_is_named(page: httpx.Client, path: str, says: str) -> None:
    assert says in refused(page.get(path), 422)


def test_what_is_no_picture_is_refused(page: httpx.Client) -> None:
    assert "not an image" in refused(page.post("/api/similar", files={"picture": ("a.jpg", b"words" * 10)}), 422)
    assert "picture" in refused(page.post("/api/similar"), 422)


def test_a_picture_larger_than_allowed_is_refused_unread(open_page: Open) -> None:
    page = open_page(upload_bytes=1000)
    large = BytesIO()
    Image.effect_noise((600, 600), 90).save(large, "PNG")
    assert "larger than" in refused(page.post("/api/similar", files={"picture": ("a.png", large.getvalue())}), 413)

    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
        for _ in range(100):
            yield b"x" * 5000

    chunked = page.post("/api/similar", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert "larger than" in refused(chunked, 413)


def test_a_path_that_is_not_there_is_told_as_json(page: httpx.Client) -> None:
    refused(page.get("/api/nothing"), 404)
    refused(page.post("/api/search"), 405)


def test_a_part_that_is_away_is_told() -> None:
    away = Weaviate(host="127.0.0.1", port=free_port(), grpc_port=free_port())
    with serving(Settings(weaviate=away, web=Web(port=free_port())), dict) as address:
        answer = httpx.get(f"{address}/api/images/{image(1).record.id}", trust_env=False)
        assert "Weaviate" in refused(answer, 503)
        assert answer.headers["retry-after"]
        assert "CELERY_BROKER_URL" in refused(httpx.get(f"{address}/api/dead-letters", trust_env=False), 503)
        assert httpx.get(f"{address}/health", trust_env=False).json() == {"alive": True}


def test_the_status_shows_parts_ledger_and_queues(page: httpx.Client) -> None:
    status = page.get("/api/status").json()
    assert status["parts"]["redis"] == {"ok": True, "detail": "answered in 1 ms", "address": "redis://127.0.0.1:6379/0"}
    assert status["audit"]["difference"] == 0
    assert set(status["queues"]) == {"image_processing", "data_monitoring", "cleanup"}


def test_the_api_is_described(page: httpx.Client) -> None:
    described = page.get("/openapi.json").json()
    assert set(described["paths"]) == {
        *("/api/search", "/api/similar", "/api/images/{id}", "/api/images/{id}/thumbnail"),
        *("/api/images/{id}/original", "/api/status", "/api/dead-letters"),
        *("/api/dead-letters/replay", "/api/dead-letters/discard"),
        *("/api/watches", "/api/watches/test", "/api/watches/{name}"),
        *("/api/watches/{name}/pause", "/api/watches/{name}/resume", "/api/watches/{name}/dead-letters"),
        *("/api/watches/{name}/dead-letters/replay", "/api/watches/{name}/dead-letters/discard"),
    }
    parameters = {item["name"]: item for item in described["paths"]["/api/search"]["get"]["parameters"]}
    assert all(item["description"] for item in parameters.values())
