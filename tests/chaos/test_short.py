"""The chaos cases that are quick enough for every test run; ``make chaos`` runs them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.case import Case, cases
from tests.chaos.runner import run_case
from tests.chaos.servers import SharedServers


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServers]:
    """The model server and the store of all cases."""
    with SharedServers(tmp_path_factory.mktemp("chaos")) as servers:
        yield servers


@pytest.mark.parametrize("case", [case for case in cases().values() if case.short], ids=lambda case: case.name)
def test_nothing_is_lost_and_nothing_lands_twice(case: Case, shared: SharedServers, tmp_path: Path) -> None:
    result = run_case(case, tmp_path / case.name, shared)
    assert result.ok, result.why
