"""Reading a vision-language model's answer."""

from __future__ import annotations

import pytest

from errors import TransientError
from inference.captions import parse
from records import Caption

WANTED = Caption("A red barn beside a road, sign reads 55.", ("barn", "road", "sign"))


@pytest.mark.parametrize(
    "answer",
    [
        "caption: A red barn beside a road, sign reads 55.\nkeywords: barn, road, sign",
        "Caption: A red barn beside a road, sign reads 55.\n\nKeywords: barn, road, sign.\n",
        "**Caption:** A red barn beside a road, sign reads 55.\n\n**Keywords:** barn, road, sign",
        "**caption**: A red barn beside a road,\nsign reads 55.\n**keywords**:\n- barn\n- road\n- sign",
        "CAPTION: A red barn beside a road, sign reads 55.\nKEYWORDS:\n1. barn\n2. road\n3) sign",
        "caption: A red barn beside a road, sign reads 55. keywords: barn, road, sign",
        "Here is the caption you asked for.\n\n## Caption: A red barn beside a road, sign reads 55.\n"
        "Key words: barn; road; sign",
        "```\ncaption: A red barn beside a road, sign reads 55.\nkeywords: barn, Barn, road, sign, sign\n```",
        '{"caption": "A red barn beside a road, sign reads 55.", "keywords": ["barn", "road", "sign"]}',
        '```json\n{"Caption": "A red barn beside a road, sign reads 55.", "Keywords": "barn, road, sign"}\n```',
        '* caption: *A red barn beside a road, sign reads 55.*\n* keywords: * barn, `road`, "sign"',
        "caption: A red barn beside a road, sign reads 55.\nkeywords: barn, road, sign\n\n"
        "I hope that this description of the picture is helpful to you and your colleagues!",
        "A red barn beside a road, sign reads 55.\nkeywords: barn, road, sign",
    ],
)
def test_an_answer_is_understood_however_it_is_dressed(answer: str) -> None:
    assert parse("gemma3", answer) == WANTED


@pytest.mark.parametrize("answer", ["caption: A red barn.", "A red barn.", "caption: A red barn.\nkeywords:"])
def test_without_keywords_there_are_none(answer: str) -> None:
    assert parse("gemma3", answer) == Caption("A red barn.", ())


def test_other_scripts_and_signs_are_kept() -> None:
    answer = "caption: 山の上の太陽, 12 °C.\nkeywords: 山、太陽"
    assert parse("gemma3", answer) == Caption("山の上の太陽, 12 °C.", ("山", "太陽"))


@pytest.mark.parametrize(
    "answer", ["", "  \n", "caption:", "caption: ...\nkeywords: a, b", "keywords: a, b", "```\n```"]
)
def test_an_answer_without_a_caption_is_a_bad_answer(answer: str) -> None:
    with pytest.raises(TransientError, match="gemma3") as refused:
        parse("gemma3", answer)
    assert refused.value.cause == "model_answer"


@pytest.mark.parametrize(
    "answer",
    [
        "Error: CUDA out of memory",
        "UNEXPECTED ERROR: list index out of range",
        "ERROR in generate/decode: device-side assert",
        "RuntimeError: mat1 and mat2",
        "Traceback (most recent call last):\n  File",
        "[ERROR]: no image",
    ],
)
def test_an_errors_text_is_an_error_and_never_a_caption(answer: str) -> None:
    with pytest.raises(TransientError, match="gemma3 failed") as refused:
        parse("gemma3", answer)
    assert refused.value.cause == "model_error"


def test_a_picture_of_an_error_is_a_caption() -> None:
    assert parse("gemma3", "caption: Error: 404 on a screen.\nkeywords: screen").text == "Error: 404 on a screen."
    assert parse("gemma3", "Error messages fill a computer screen.").keywords == ()
