"""Reading a vision-language model's answer: a caption and keywords, however it dressed them up."""

from __future__ import annotations

import json
import re

from errors import TransientError
from inference.contract import bad_answer
from records import Caption

MAX_KEYWORDS = 50
# A longer item is a sentence that the model added after the list.
MAX_KEYWORD_LENGTH = 60

_DRESS = r"[\s*_#>`\"'-]*"
_CAPTION = re.compile(rf"^{_DRESS}caption{_DRESS}[:\uff1a]{_DRESS}", re.IGNORECASE | re.MULTILINE)
_KEYWORDS = re.compile(rf"{_DRESS}\bkey[ -]?words?{_DRESS}[:\uff1a]{_DRESS}", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)
_BULLET = re.compile(r"^\s*(?:[-*•+]+|\d{1,2}[.)])\s+")
# Old servers put an exception's text where the answer belongs: "UNEXPECTED ERROR: …", "ERROR in generate/decode: …".
_ERROR = re.compile(
    r"\W*(?:(?:unexpected|internal|runtime|cuda)\s+)?[a-z_.]*(?:error|exception)\b[^.\n]{0,40}:", re.IGNORECASE
)
_TRACEBACK = "Traceback (most recent call last)"


def refuse_error_text(model: str, answer: str) -> None:
    """Raise ``TransientError`` (``model_error``) when the answer is an error's text, which is never a caption."""
    if _ERROR.match(answer) or _TRACEBACK in answer:
        raise TransientError(f"model {model} failed: {' '.join(answer.split())[:300]}", cause="model_error")


def checked(model: str, caption: Caption) -> Caption:
    """The caption, when it says something. Raises ``TransientError`` (``model_answer``)."""
    if not any(character.isalnum() for character in caption.text):
        raise bad_answer(model, "no caption")
    if sum(not character.isprintable() for character in caption.text) * 10 > len(caption.text):
        raise bad_answer(model, "unprintable characters instead of a caption")
    return caption


def parse(model: str, answer: str) -> Caption:
    """Caption and keywords of an answer in the form ``caption: …`` and ``keywords: a, b, …``.

    Labels in any case and with markup, keywords as a list of lines, a JSON object of the two, and an answer without
    labels (all of it is the caption) are understood; without keywords there are none. Raises ``TransientError``:
    ``model_error`` for an error's text, ``model_answer`` for an empty answer.
    """
    refuse_error_text(model, answer)
    text = _FENCE.sub("", answer).strip()
    if (caption := _parse_json(text)) is not None:
        return checked(model, caption)
    start = _CAPTION.search(text)
    if start:
        text = text[start.end() :]
    caption_text, keywords_text = text, ""
    if split := _KEYWORDS.search(text):
        caption_text, keywords_text = text[: split.start()], text[split.end() :]
    return checked(model, Caption(_plain(caption_text), keywords_of(re.split(r"[,;,、\n]", keywords_text))))


def keywords_of(items: list[str]) -> tuple[str, ...]:
    """Keywords without markup, bullets, doubles and sentences, in their order."""
    found: dict[str, str] = {}
    for item in items:
        word = _plain(_BULLET.sub("", item)).rstrip(".")
        if word and len(word) <= MAX_KEYWORD_LENGTH and any(character.isalnum() for character in word):
            found.setdefault(word.casefold(), word)
    return tuple(found.values())[:MAX_KEYWORDS]


def _plain(text: str) -> str:
    """One line without emphasis marks and surrounding quotes."""
    return " ".join(text.replace("**", "").replace("`", "").split()).strip("*_\"'“” ")


def _parse_json(text: str) -> Caption | None:
    if not text.startswith("{"):
        return None
    try:
        document = json.loads(text)
    except ValueError:
        return None
    fields = {str(key).casefold(): value for key, value in document.items()}
    if not isinstance(fields.get("caption"), str):
        return None
    keywords = fields.get("keywords") or []
    items = re.split(r"[,;\n]", keywords) if isinstance(keywords, str) else [str(item) for item in keywords]
    return Caption(_plain(fields["caption"]), keywords_of(items))
