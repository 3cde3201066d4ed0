"""The light models: what they say of real photos, batching, errors, and that each picture is looked at once."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from tritonclient.utils import InferenceServerException

from settings import Triton
from tests.triton.asking import ask, ask_all, client, executions, rows

NOT_A_PICTURE = b"this is no picture"


def jpeg(path: Path) -> bytes:
    """The photo as the pipeline sends it: RGB, longest side 512."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.thumbnail((512, 512))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=90)


def drawn(seed: int) -> bytes:
    """A picture that nobody has asked for before."""
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    return simplejpeg.encode_jpeg(pixels, quality=90)


def caption(section: Triton, picture: bytes) -> str:
    return ask(section, "light_captioner", image=rows(picture)).as_numpy("caption")[0, 0].decode()


def embedded(section: Triton, *, image: bytes = b"", text: str = "") -> tuple[np.ndarray, np.ndarray]:
    answer = ask(section, "light_embedder", image=rows(image), text=rows(text.encode()))
    return answer.as_numpy("image_embedding")[0], answer.as_numpy("text_embedding")[0]


def counter(section: Triton, name: str) -> float:
    """A counter on Triton's own metrics endpoint."""
    with urllib.request.urlopen(f"http://127.0.0.1:{section.metrics_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    ("photo", "words"), [("coffee", ("cup", "espresso")), ("chelsea", ("cat",)), ("astronaut", ("person",))]
)
def test_a_caption_and_its_keywords_name_what_is_in_the_photo(
    light_triton: Triton, photos: Path, photo: str, words: tuple[str, ...]
) -> None:
    answer = ask(light_triton, "light_captioner", image=rows(jpeg(photo_file(photos, photo))))
    said = answer.as_numpy("caption")[0, 0].decode()
    keywords = answer.as_numpy("keywords")[0, 0].decode().split(", ")
    assert said.startswith("A photo of a")
    assert said.endswith(".")
    for name in words:
        assert name in said
        assert name in keywords


def photo_file(photos: Path, name: str) -> Path:
    return next(path for path in sorted(photos.iterdir()) if path.stem == name)


@pytest.mark.parametrize(
    ("query", "photo"),
    [("a cup of coffee", "coffee"), ("a cat", "chelsea"), ("a motorcycle", "motorcycle_left"), ("a rocket", "rocket")],
)
def test_a_query_finds_its_photo_first(light_triton: Triton, photos: Path, query: str, photo: str) -> None:
    names = ("coffee", "chelsea", "motorcycle_left", "china", "rocket", "astronaut", "moon", "page")
    wanted = embedded(light_triton, text=query)[1]
    scores = {name: float(embedded(light_triton, image=jpeg(photo_file(photos, name)))[0] @ wanted) for name in names}
    assert max(scores, key=scores.__getitem__) == photo


def test_vectors_have_unit_length_and_the_half_that_was_not_asked_for_is_zero(light_triton: Triton) -> None:
    image, none = embedded(light_triton, image=drawn(1))
    assert image.shape == (384,)
    assert np.linalg.norm(image) == pytest.approx(1, abs=1e-5)
    assert not none.any()
    none, text = embedded(light_triton, text="a street at night")
    assert np.linalg.norm(text) == pytest.approx(1, abs=1e-5)
    assert not none.any()


def test_a_text_alone_does_not_touch_the_networks(light_triton: Triton) -> None:
    before = executions(light_triton, "light_vision")
    embedded(light_triton, text="a text nobody asked for")
    assert executions(light_triton, "light_vision") == before


async def test_a_picture_that_both_models_ask_for_at_once_is_looked_at_once(light_triton: Triton) -> None:
    looked = counter(light_triton, "light_vision_pictures_looked_at_total")
    pictures = [drawn(seed) for seed in range(100, 110)]
    requests = [("light_captioner", {"image": rows(picture)}) for picture in pictures]
    requests += [("light_embedder", {"image": rows(picture), "text": rows(b"")}) for picture in pictures]
    answers = await ask_all(light_triton, requests)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert counter(light_triton, "light_vision_pictures_looked_at_total") == looked + len(pictures)


async def test_requests_at_the_same_time_are_answered_in_batches(light_triton: Triton) -> None:
    items, runs = executions(light_triton, "light_captioner")
    answers = await ask_all(light_triton, [("light_captioner", {"image": rows(drawn(seed))}) for seed in range(24)])
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    items, runs = (
        now - then for now, then in zip(executions(light_triton, "light_captioner"), (items, runs), strict=True)
    )
    assert items == 24
    assert runs <= 12


def test_one_request_may_hold_several_pictures(light_triton: Triton) -> None:
    pictures = [drawn(200), drawn(201), drawn(200)]
    answer = ask(light_triton, "light_captioner", image=rows(*pictures)).as_numpy("caption")
    assert answer.shape == (3, 1)
    assert [text.decode() for text in answer[:, 0]] == [caption(light_triton, picture) for picture in pictures]


def test_one_request_may_mix_pictures_and_texts(light_triton: Triton) -> None:
    answer = ask(light_triton, "light_embedder", image=rows(b"", drawn(202)), text=rows(b"a cat", b""))
    assert [bool(row.any()) for row in answer.as_numpy("image_embedding")] == [False, True]
    assert [bool(row.any()) for row in answer.as_numpy("text_embedding")] == [True, False]


async def test_a_vector_does_not_depend_on_the_neighbours_in_its_batch(light_triton: Triton) -> None:
    texts = [b"a boat", b"a photo of a street with two cars and three people; it may be a cab.", b"rain"]
    picture = drawn(203)
    together = await ask_all(
        light_triton,
        [("light_embedder", {"image": rows(b""), "text": rows(text)}) for text in texts]
        + [("light_embedder", {"image": rows(picture), "text": rows(b"")})],
    )
    for text, answer in zip(texts, together, strict=False):
        np.testing.assert_array_equal(
            answer.as_numpy("text_embedding")[0], embedded(light_triton, text=text.decode())[1]
        )
    np.testing.assert_array_equal(together[-1].as_numpy("image_embedding")[0], embedded(light_triton, image=picture)[0])


@pytest.mark.parametrize(("model", "extra"), [("light_captioner", {}), ("light_embedder", {"text": rows(b"")})])
async def test_bytes_that_are_no_picture_are_an_error_and_leave_their_neighbours_alone(
    light_triton: Triton, model: str, extra: dict[str, np.ndarray]
) -> None:
    pictures = [drawn(300), NOT_A_PICTURE, drawn(301), drawn(302)[:60]]
    answers = await ask_all(light_triton, [(model, {"image": rows(picture), **extra}) for picture in pictures])
    assert [isinstance(answer, InferenceServerException) for answer in answers] == [False, True, False, True]
    assert "the image cannot be decoded" in str(answers[1])
    assert answers[1].status() == "StatusCode.INVALID_ARGUMENT"


def test_an_empty_picture_has_no_caption(light_triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match="the image is empty"):
        caption(light_triton, b"")


def test_a_text_that_is_not_utf8_is_an_error(light_triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match="not UTF-8"):
        ask(light_triton, "light_embedder", image=rows(b""), text=rows(b"\xff\xfe"))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_colour_has_a_caption_and_a_vector(light_triton: Triton, value: int) -> None:
    picture = simplejpeg.encode_jpeg(np.full((48, 64, 3), value, np.uint8))
    assert caption(light_triton, picture).startswith("A dark photo" if value == 0 else "A photo")
    assert np.linalg.norm(embedded(light_triton, image=picture)[0]) == pytest.approx(1, abs=1e-5)


def test_a_text_longer_than_the_encoder_reads_has_a_vector(light_triton: Triton) -> None:
    assert embedded(light_triton, text="word " * 5000)[1].any()


async def test_without_the_networks_captions_fail_and_texts_are_still_embedded(light_triton: Triton) -> None:
    text = {"image": rows(b""), "text": rows(b"a lighthouse")}
    with client(light_triton) as opened:
        opened.unload_model("light_vision")
        try:
            requests = [
                ("light_embedder", text),
                ("light_embedder", {"image": rows(drawn(400)), "text": rows(b"")}),
            ] * 4
            answers = await ask_all(light_triton, requests)
            captions = await ask_all(light_triton, [("light_captioner", {"image": rows(drawn(400))})] * 8)
        finally:
            opened.load_model("light_vision")
    assert [isinstance(answer, Exception) for answer in answers] == [False, True] * 4
    assert all("light_vision" in str(answer) for answer in [answers[1], *captions])
    assert caption(light_triton, drawn(400)).startswith("A")


@pytest.mark.parametrize(
    ("query", "better", "worse"),
    [
        ("a cup of coffee", "A photo of a coffee mug and an espresso.", "A photo of a tabby cat on a sofa."),
        ("where is the cat", "A photo of a tabby cat on a sofa.", "A photo of a rocket before its start."),
    ],
)
def test_the_reranker_prefers_the_text_that_answers_the_query(
    light_triton: Triton, query: str, better: str, worse: str
) -> None:
    pair = {"query": rows(query.encode(), query.encode()), "text": rows(worse.encode(), better.encode())}
    scores = ask(light_triton, "light_reranker", **pair).as_numpy("score")
    assert scores.shape == (2, 1)
    assert scores[1, 0] > scores[0, 0]


def test_a_pair_s_score_does_not_depend_on_its_neighbours(light_triton: Triton) -> None:
    texts = [b"a cat", b"a long text on the history of coffee in Vienna and elsewhere", b""]
    batch = ask(light_triton, "light_reranker", query=rows(*[b"coffee"] * 3), text=rows(*texts)).as_numpy("score")
    for number, text in enumerate(texts):
        alone = ask(light_triton, "light_reranker", query=rows(b"coffee"), text=rows(text)).as_numpy("score")
        assert alone[0, 0] == batch[number, 0]


def test_the_reranker_refuses_what_is_not_utf_8(light_triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match="not UTF-8"):
        ask(light_triton, "light_reranker", query=rows(b"coffee"), text=rows(b"\xff\xfe"))
