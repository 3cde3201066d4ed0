"""The captions' grammar, on findings given as data."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from settings import PROJECT_ROOT

BOX = [0.0, 0.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def sentences() -> ModuleType:
    """The module beside the model, which only Triton imports otherwise."""
    path = PROJECT_ROOT / "triton" / "models" / "light_captioner" / "1" / "sentences.py"
    spec = importlib.util.spec_from_file_location("sentences", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def findings(objects: list[str], tags: list[tuple[str, float]] = [], brightness: float = 0.5) -> dict[str, Any]:  # noqa: B006
    return {"objects": [[name, 0.9, BOX] for name in objects], "tags": tags, "brightness": brightness}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (findings(["cat"]), "A photo of a cat."),
        (findings(["car", "person", "car", "person", "person"]), "A photo of three people and two cars."),
        (findings(["umbrella", "bus", "bus"]), "A photo of two buses and an umbrella."),
        (findings(["person"] * 13), "A photo of 13 people."),
        (findings(["cup"], [("espresso", 0.8)]), "A photo of a cup; it looks like an espresso."),
        (findings([], [("cab", 0.3), ("minivan", 0.2), ("grille", 0.1)]), "A photo; it may be a cab or a minivan."),
        (findings([], [("sunglasses", 0.9)]), "A photo; it looks like sunglasses."),
        (findings([], [], 0.05), "A dark photo in which nothing was recognised."),
        (findings(["skis", "knife", "knife"]), "A photo of two knives and a pair of skis."),
    ],
)
def test_a_caption_says_what_was_found_in_plain_english(sentences: ModuleType, found: dict, said: str) -> None:
    assert sentences.caption(found) == said


def test_an_object_of_a_low_score_is_not_mentioned(sentences: ModuleType) -> None:
    found = {"objects": [["dog", 0.45, BOX]], "tags": [], "brightness": 0.5}
    assert sentences.caption(found) == "A photo in which nothing was recognised."
    assert sentences.keywords(found) == []


def test_keywords_are_the_objects_and_then_the_tags_each_once(sentences: ModuleType) -> None:
    found = findings(["car", "person", "car"], [("cab", 0.4), ("car", 0.2), ("grille", 0.01)])
    assert sentences.keywords(found) == ["car", "person", "cab"]


@pytest.mark.parametrize(("label", "phrase"), [("unicycle", "a unicycle"), ("hourglass", "an hourglass")])
def test_an_article_follows_the_sound(sentences: ModuleType, label: str, phrase: str) -> None:
    assert sentences.with_article(label) == phrase
