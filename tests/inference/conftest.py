"""Connections to the real servers of ``tests/fixtures/triton.py``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from PIL import Image

from inference import TritonConnection
from inference.images import prepare
from records import Picture
from settings import Triton
from tests.inference.pictures import FETCH, encoded


@dataclass
class Observed:
    """What the observer was told."""

    calls: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, model: str, operation: str, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((model, operation, status))


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
async def connection(triton_server: Triton, observed: Observed) -> AsyncIterator[TritonConnection]:
    opened = TritonConnection(triton_server, observed)
    yield opened
    await opened.close()


def coloured(colour: tuple[int, int, int], width: int = 120, height: int = 80, format: str = "PNG") -> Picture:
    """A picture of one colour."""
    return prepare(encoded(Image.new("RGB", (width, height), colour), format), FETCH)
