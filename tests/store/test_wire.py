"""What travels to the server, beside what the SDK makes of the same objects."""

from __future__ import annotations

import pytest
import weaviate  # noqa: F401 - before the SDK's parts
from weaviate.collections.batch.grpc_batch import _BatchGRPC
from weaviate.collections.classes.batch import _BatchObject
from weaviate.util import _ServerVersion

from records import Place
from store.objects import landing_object
from store.wire import request
from tests.store.images import CHICAGO, image


@pytest.mark.parametrize("keywords", [(), ("street", "café")])
@pytest.mark.parametrize("place", [CHICAGO, Place()])
def test_a_request_is_the_one_that_the_sdk_makes(place: Place, keywords: tuple[str, ...]) -> None:
    items = [landing_object(image(number, place=place, keywords=keywords)) for number in range(3)]
    theirs = _BatchGRPC(_ServerVersion(1, 37, 14), None, None).grpc_objects(
        [
            _BatchObject(
                collection="Pictures",
                uuid=item.id,
                properties=dict(item.properties),
                vector={item.vector_name: item.vector.tolist()},
                tenant=None,
                references=None,
                index=index,
            )
            for index, item in enumerate(items)
        ]
    )
    assert list(request("Pictures", items).objects) == theirs
