from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from client import WeaviateStore
from settings import Weaviate


@dataclass
class Observed:
    """What the store told its observer."""

    calls: list[tuple[str, str, float]] = field(default_factory=list)

    def __call__(self, operation: str, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((operation, status, seconds))

    def count(self, operation: str, status: str = "success") -> int:
        return sum(call[:2] == (operation, status) for call in self.calls)


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest_asyncio.fixture
async def store(collection: Weaviate, observed: Observed) -> AsyncIterator[WeaviateStore]:
    opened = await WeaviateStore.open(collection, observed)
    yield opened
    await opened.close()
