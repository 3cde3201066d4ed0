"""The API key is nowhere that a person or a log would see it."""

from __future__ import annotations

from settings import Settings, Weaviate


def test_the_sections_words_leave_the_key_out():
    section = Weaviate(api_key="a-secret-key")
    assert "a-secret-key" not in f"{section} {section!r} {Settings(weaviate=section)!r}"
