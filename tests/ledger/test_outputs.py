"""Kept outputs: what comes back, for how long, for how many, and when they go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from errors import PartUnavailable
from ledger import Lease, Ledger, outputs
from records import Caption, Made, ModelIdentity, Outputs, Place, Sight
from settings import Jobs
from tests.fixtures.redis import Valkey, running_valkey
from tests.ledger.samples import make_letter, make_record, make_records, take

CAPTIONER, EMBEDDER = ModelIdentity("gemma3", "2", "0badcafe"), ModelIdentity("clip", "1")


def made() -> Outputs:
    vectors = np.random.default_rng(1).standard_normal((2, 768)).astype(np.float32)
    return Outputs(
        sight=Sight(Place(41.5, None, "SAGE", "Chicago \u2603"), b"\xff\xd8\n\x00jpeg\n", "ab" * 32, 4000, 3000),
        caption=Made(Caption("a caf\u00e9\nby night", ("caf\u00e9", "night")), CAPTIONER),
        image_vector=Made(vectors[0], EMBEDDER),
        text_vector=Made(vectors[1], EMBEDDER),
    )


def kept(ledger: Ledger, number: int = 0) -> Lease:
    """A lease whose outputs are kept."""
    lease = take(ledger, make_record(number))
    assert ledger.outputs.keep(lease, made())
    return lease


def keys(valkey: Valkey) -> list[str]:
    return valkey.client.keys("weavloader:outputs*")


def test_all_of_it_comes_back_as_it_was(ledger: Ledger) -> None:
    lease = kept(ledger)
    back, before = ledger.outputs.load(lease.id), made()
    assert (back.sight, back.caption) == (before.sight, before.caption)
    for one, other in ((back.image_vector, before.image_vector), (back.text_vector, before.text_vector)):
        assert one is not None
        assert other is not None
        assert one.by == other.by
        assert one.value.dtype == np.float32
        assert one.value.tobytes() == other.value.tobytes()


def test_what_is_kept_later_replaces_all_of_it(ledger: Ledger) -> None:
    """A text's vector must not outlive the caption that it is of."""
    lease = kept(ledger)
    again = Made(Caption("another"), CAPTIONER)
    ledger.outputs.keep(lease, Outputs(caption=again))
    assert ledger.outputs.load(lease.id) == Outputs(caption=again)


def test_the_next_lease_says_that_there_are_some(ledger: Ledger) -> None:
    lease = take(ledger, make_record(0))
    assert not lease.kept
    ledger.outputs.keep(lease, made())
    ledger.release(lease)
    assert take(ledger, make_record(0)).kept


def test_nothing_kept_is_nothing_loaded(ledger: Ledger) -> None:
    assert ledger.outputs.load(make_record(0).id) == Outputs()


def test_what_cannot_be_read_is_nothing(ledger: Ledger, valkey: Valkey) -> None:
    valkey.client.hset(f"weavloader:outputs:{make_record(0).id}", "sight", "[1,2]\n")
    assert ledger.outputs.load(make_record(0).id) == Outputs()


def test_a_late_owner_keeps_nothing(ledger: Ledger, valkey: Valkey) -> None:
    lease = take(ledger, make_record(0))
    ledger.release(lease)
    assert not ledger.outputs.keep(lease, made())
    assert keys(valkey) == []


def test_they_end_by_themselves(ledger: Ledger, valkey: Valkey) -> None:
    lease = kept(ledger)
    assert 0 < valkey.client.ttl(f"weavloader:outputs:{lease.id}") <= outputs.KEPT_SECONDS


def test_they_go_when_the_image_lands_or_is_skipped(ledger: Ledger, valkey: Valkey) -> None:
    assert ledger.land(kept(ledger, 0))
    assert ledger.skip(kept(ledger, 1), "protected")
    assert keys(valkey) == []


def test_they_stay_while_the_image_waits(ledger: Ledger, valkey: Valkey) -> None:
    lease = kept(ledger)
    ledger.wait(lease, time.time() - 1, spend_attempt=True, reason="store_error")
    ledger.sweep()
    assert take(ledger, make_record(0)).kept


@pytest.mark.parametrize(("kind", "left"), [("transient", 2), ("permanent", 0), ("poison", 0)])
def test_of_dead_letters_the_transient_ones_keep_them(ledger: Ledger, valkey: Valkey, kind: str, left: int) -> None:
    assert ledger.bury(kept(ledger), make_letter(make_record(0), "store_error", kind))
    assert len(keys(valkey)) == left
    ledger.letters.replay([make_record(0).id])
    assert take(ledger, make_record(0)).kept == bool(left)


def test_a_discarded_letters_go(ledger: Ledger, valkey: Valkey) -> None:
    ledger.bury(kept(ledger), make_letter(make_record(0), "store_error", "transient"))
    ledger.letters.discard([make_record(0).id])
    assert keys(valkey) == []


def test_they_can_be_dropped(ledger: Ledger, valkey: Valkey) -> None:
    ledger.outputs.drop(kept(ledger).id)
    assert keys(valkey) == []


def test_only_so_many_images_keep_them(ledger: Ledger, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MOST_IMAGES", 2)
    first, _ = kept(ledger, 0), kept(ledger, 1)
    third = take(ledger, make_record(2))
    assert not ledger.outputs.keep(third, made())
    assert ledger.outputs.keep(first, made()), "it has its place already"
    valkey.client.zadd("weavloader:outputs", {first.id: 1})  # its time is over
    assert ledger.outputs.keep(third, made())
    assert valkey.client.zcard("weavloader:outputs") == 2


def test_an_images_outputs_cost_little_more_than_its_thumbnail(ledger: Ledger, valkey: Valkey) -> None:
    lease = kept(ledger)
    size = valkey.client.memory_usage(f"weavloader:outputs:{lease.id}", samples=0)
    print(f"{size} bytes beside the thumbnail")
    assert size < 10_000


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path) as server:
        yield server


def test_a_full_server_keeps_nothing_and_lets_the_job_wait(own: Valkey) -> None:
    with Ledger(Jobs(broker_url=own.url)) as ledger:
        records = make_records(2)
        leases = [take(ledger, record) for record in records]
        own.client.config_set("maxmemory", 1)
        with pytest.raises(PartUnavailable, match="is full") as caught:
            ledger.outputs.keep(leases[0], made())
        assert caught.value.cause == "redis_full"
        assert keys(own) == []
        assert ledger.wait(leases[0], time.time() + 60, spend_attempt=False, reason="weaviate_unavailable")
        assert ledger.land(leases[1])
