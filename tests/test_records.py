"""The words: ids, times, messages."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from errors import PartUnavailable, PermanentError, WeavloaderError
from ledger import images
from records import (
    AuditCounts,
    Caption,
    ImageRecord,
    Made,
    ModelIdentity,
    Outputs,
    format_timestamp,
    image_id,
    parse_timestamp,
)

RECORD = ImageRecord(
    id=image_id("sage", "https://example.org/a.jpg"),
    source="sage",
    url="https://example.org/a.jpg",
    timestamp="2022-08-08T15:04:48.820981933Z",
    captured_ns=1659971088820981933,
    vsn="W02F",
)


def test_nanoseconds_are_kept() -> None:
    assert parse_timestamp("2022-08-08T15:04:48.820981933Z") == 1659971088820981933
    assert format_timestamp(1659971088820981933) == "2022-08-08T15:04:48.820981933Z"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999999999Z", -1),
    ],
)
def test_times_with_fewer_digits_zones_and_before_1970(text: str, ns: int) -> None:
    assert parse_timestamp(text) == ns


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2022-08-08T15:04:48", "2022-08-08T15:04:48.Z", "2022-13-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text)


def test_a_record_may_tell_its_own_place() -> None:
    told = dataclasses.replace(RECORD, latitude=41.5, longitude=-87, project="flowers")
    message = json.loads(json.dumps(told.to_message()))
    assert ImageRecord.from_message(message) == told
    assert {"latitude", "longitude", "project"}.isdisjoint(RECORD.to_message())
    assert images.unpack(told.id, images.pack(told)) == told
    assert images.unpack(RECORD.id, images.pack(RECORD)) == RECORD
    assert len(json.loads(images.pack(RECORD))) == len(json.loads(images.pack(told))) - 3
    at_null = dataclasses.replace(RECORD, latitude=0.0, longitude=0.0)
    assert images.unpack(RECORD.id, images.pack(at_null)) == ImageRecord.from_message(at_null.to_message()) == at_null


@pytest.mark.parametrize("change", [{"latitude": "41"}, {"longitude": True}, {"project": 1}, {"project": None}])
def test_a_place_of_a_wrong_type_is_a_bad_record(change: dict[str, object]) -> None:
    with pytest.raises(PermanentError, match="which is not") as raised:
        ImageRecord.from_message(RECORD.to_message() | change)
    assert raised.value.cause == "bad_record"


def test_an_image_has_the_same_id_for_ever() -> None:
    assert image_id("sage", "https://example.org/a.jpg") == "c26171c2-0a0e-5cbc-80bf-2d111d970e0a"
    assert image_id("replay", "https://example.org/a.jpg") != image_id("sage", "https://example.org/a.jpg")


def test_a_record_survives_its_message() -> None:
    assert ImageRecord.from_message(json.loads(json.dumps(RECORD.to_message()))) == RECORD


def test_captured_at_is_cut_to_microseconds() -> None:
    assert RECORD.captured_at.isoformat() == "2022-08-08T15:04:48.820981+00:00"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": "x"}, "id"),
        ({"url": None}, "url"),
        ({"captured_ns": "1"}, "captured_ns"),
        ({"captured_ns": True}, "captured_ns"),
        ({"vsn": 7}, "vsn"),
    ],
)
def test_a_wrong_message_is_refused_by_field(change: dict[str, object], named: str) -> None:
    with pytest.raises(PermanentError, match=named):
        ImageRecord.from_message({**RECORD.to_message(), **change})


@pytest.mark.parametrize("field", ["id", "source", "url", "timestamp", "captured_ns"])
def test_a_message_without_a_field_is_refused_by_name(field: str) -> None:
    message = RECORD.to_message()
    del message[field]
    with pytest.raises(PermanentError, match=field):
        ImageRecord.from_message(message)


def test_fields_of_a_newer_version_do_no_harm() -> None:
    assert ImageRecord.from_message({**RECORD.to_message(), "new_field": 1}) == RECORD


def test_the_difference_is_what_is_nowhere() -> None:
    counts = AuditCounts(seen=10, pending=1, leased=2, landed=3, dead=1, skipped=1)
    assert counts.difference == 2
    assert counts.to_json()["difference"] == 2


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (ModelIdentity("a", "1", "p"), True),
        (ModelIdentity("a", "", "p"), True),  # a process that has not heard of it yet
        (ModelIdentity("a", "2", "p"), False),
        (ModelIdentity("b", "1", "p"), False),
        (ModelIdentity("a", "1", "q"), False),
        (ModelIdentity("a", "", "q"), False),
    ],
)
def test_another_model_version_or_prompt_would_make_another_output(now: ModelIdentity, same: bool) -> None:
    assert ModelIdentity("a", "1", "p").is_still(now) is same


def test_with_the_caption_goes_its_vector() -> None:
    captioner, embedder = ModelIdentity("a", "1"), ModelIdentity("e", "1")
    vector = Made(np.ones(1, np.float32), embedder)
    outputs = Outputs(caption=Made(Caption("a"), captioner), image_vector=vector, text_vector=vector)
    outputs.forget_other_models(captioner, embedder)
    assert outputs.of_models
    assert outputs.text_vector is vector
    outputs.forget_other_models(ModelIdentity("b", "1"), embedder)
    assert (outputs.caption, outputs.image_vector, outputs.text_vector) == (None, vector, None)
    outputs.forget_other_models(captioner, ModelIdentity("f", "1"))
    assert not outputs.of_models


def test_errors_travel_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(PartUnavailable("triton", "away", cause="gone")))
    assert (type(error), str(error), error.part, error.cause) == (PartUnavailable, "away", "triton", "gone")


def test_every_error_has_an_exit_code_of_its_own_kind() -> None:
    own = [kind for kind in WeavloaderError.__subclasses__() if kind.__module__ == WeavloaderError.__module__]
    codes = {kind.__name__: kind.exit_code for kind in [WeavloaderError, *own]}
    assert codes == {
        **{"WeavloaderError": 1, "UsageError": 2, "ConfigurationError": 4, "PartUnavailable": 3},
        **{"TransientError": 1, "PermanentError": 1, "NotFound": 1},
    }
