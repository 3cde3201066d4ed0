"""The API under whatever its own description allows, and some of what it does not (schemathesis)."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.web.conftest import Land, Open, street

ADMIN = "the admin's word"
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
#: What takes no parameter, or any text as an id.
_IMAGE = "/api/images/{id}"
ANY_TEXT = {"/api/status", "/api/watches", _IMAGE, f"{_IMAGE}/thumbnail", f"{_IMAGE}/original"}
HOW = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture
def described(open_page: Open, land: Land) -> httpx.Client:
    """A page with some images, which may be asked as often as one likes."""
    land(*(street(number) for number in range(5)))
    return open_page(admin_token=ADMIN, rate=10_000_000)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_api_keeps_to_its_description(described: httpx.Client, mode: GenerationMode) -> None:
    """Every answer to what is allowed, and to what is not, is one of those that are described, in the form that is
    described, and never a fault of ours.
    """

    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {ADMIN}"})

    schema = schemathesis.openapi.from_url(f"{described.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 20
    nothing_to_get_wrong = set()
    for operation in operations:
        try:
            HOW(given(case=operation.as_strategy(generation_mode=mode))(ask))()
        except Unsatisfiable:
            nothing_to_get_wrong.add(operation.path)
    assert nothing_to_get_wrong <= (ANY_TEXT if mode is GenerationMode.NEGATIVE else set())
