"""Any order of operations: the ledger and a plain model of it agree after every one."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import replace

import pytest

from ledger import Lease, Ledger, Refusal
from records import PARTS, AuditCounts, DeadLetter, ModelIdentity, Redo
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import make_letter, make_record, make_skipped

STEPS = 700
IMAGES = 12
#: Another one in each run of the tests; the same in all processes that share a run.
NEW_SEED = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID")).randrange(10**9)
OPERATIONS = [*["lease", "suspect", "end"] * 3, "record", "skipped", "renew", "expire"]
OPERATIONS += ["sweep", "sweep_late", "replay", "discard", "reopen", "redo", "forget", "cancel"]
ORDERS = [Redo(PARTS, ModelIdentity("a", "1"), ModelIdentity("b", "1"), prompt) for prompt in ("", "x", "y")]


class Model:
    """What the ledger promises, as plainly as it can be said."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.reopened: set[str] = set()
        self.attempts: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.tokens: dict[str, int] = {}
        self.letters: set[str] = set()
        self.orders: dict[str, Redo] = {}

    def audit(self) -> AuditCounts:
        count = Counter(self.states.values())
        return AuditCounts(
            seen=len(self.states),
            pending=count["queued"] + count["waiting"] + count["apart"],
            leased=count["leased"],
            landed=count["landed"],
            dead=count["dead"],
            skipped=count["skipped"],
            forgotten=count["forgotten"],
        )

    def holds(self, lease: Lease) -> bool:
        return self.states.get(lease.id) == "leased" and self.tokens[lease.id] == lease.token

    def afresh(self, image: str) -> None:
        self.states[image] = "queued"
        self.attempts[image] = self.deaths[image] = 0
        self.reopened.discard(image)

    def due(self, image: str) -> None:
        """Queue it again, or set it apart where it is a suspect."""
        self.states[image] = "apart" if self.deaths[image] else "queued"

    def order(self, image: str) -> str:
        return self.orders[image].to_text() if image in self.orders else ""

    def shown(self, image: str) -> str | None:
        state = self.states.get(image)
        return "waiting" if state == "apart" else state


class Walk:
    """One random walk over both."""

    def __init__(self, ledger: Ledger, valkey: Valkey, seed: int) -> None:
        self.ledger, self.valkey, self.model = ledger, valkey, Model()
        self.random = random.Random(seed)
        self.records = [make_record(number) for number in range(IMAGES)]
        self.by_id = {record.id: record for record in self.records}
        self.leases: list[Lease] = []

    def step(self) -> str:
        operation = self.random.choice(OPERATIONS)
        getattr(self, operation)()
        return operation

    def some(self) -> list[str]:
        return self.random.sample(sorted(self.by_id), self.random.randint(0, 4))

    def record(self) -> None:
        batch = [self.by_id[image] for image in self.some()]
        new = self.ledger.record(batch)
        assert new == [record for record in batch if record.id not in self.model.states]
        for record in new:
            self.model.afresh(record.id)

    def skipped(self) -> None:
        line = make_skipped(self.random.randrange(4))
        assert self.ledger.record_skipped([line]) == ([] if line.id in self.model.states else [line])
        self.model.states.setdefault(line.id, "skipped")

    def lease(self) -> None:
        record = self.random.choice(self.records)
        model, state = self.model, self.model.states.get(record.id)
        answer = self.ledger.lease(record)
        if state in (None, "queued"):
            assert isinstance(answer, Lease)
            assert (answer.attempt, answer.deaths) == (model.attempts[record.id] + 1, 0)
            assert answer.token > max(model.tokens.values(), default=0)
            assert answer.redo == model.order(record.id)
            model.states[record.id], model.tokens[record.id] = "leased", answer.token
            self.leases.append(answer)
        else:
            assert answer == Refusal(model.shown(record.id))  # type: ignore[arg-type]

    def suspect(self) -> None:
        model, apart = self.model, {image for image, state in self.model.states.items() if state == "apart"}
        taken = self.ledger.lease_suspect()
        if not apart:
            assert taken is None
            return
        assert taken is not None
        record, lease = taken
        assert record == self.by_id[lease.id]
        assert lease.id in apart
        assert (lease.attempt, lease.deaths) == (model.attempts[lease.id] + 1, model.deaths[lease.id])
        assert lease.token > max(model.tokens.values(), default=0)
        assert lease.redo == model.order(lease.id)
        model.states[lease.id], model.tokens[lease.id] = "leased", lease.token
        self.leases.append(lease)

    def end(self) -> None:
        if not self.leases:
            return
        lease = self.random.choice(self.leases)  # often one that ended or was lost long ago
        model, held = self.model, self.model.holds(lease)
        how = self.random.choice(["land", "skip", "wait", "wait_spending", "release", "bury"])
        letter: DeadLetter = make_letter(self.by_id[lease.id], self.random.choice(["not_found", "bad"]), "transient")
        if lease.id in model.orders:
            letter = replace(letter, redo=model.orders[lease.id].to_json())
        done = {
            "land": lambda: self.ledger.land(lease),
            "skip": lambda: self.ledger.skip(lease, "protected"),
            "wait": lambda: self.ledger.wait(lease, time.time() - 1, spend_attempt=False, reason="paused"),
            "wait_spending": lambda: self.ledger.wait(lease, time.time() - 1, spend_attempt=True, reason="failed"),
            "release": lambda: self.ledger.release(lease),
            "bury": lambda: self.ledger.bury(lease, letter),
        }[how]()
        assert done == held
        if held:
            model.states[lease.id] = {"land": "landed", "skip": "skipped", "bury": "dead"}.get(how, "waiting")
            if how == "release":
                model.due(lease.id)
            model.attempts[lease.id] += how == "wait_spending"
            if how == "bury":
                model.letters.add(lease.id)
            if how in ("land", "skip"):
                model.orders.pop(lease.id, None)

    def renew(self) -> None:
        some = self.random.sample(self.leases, min(len(self.leases), 6))
        assert self.ledger.renew(some) == [lease for lease in some if not self.model.holds(lease)]

    def expire(self) -> None:
        """Let one lease run out, and somebody else come for the image."""
        leased = sorted(image for image, state in self.model.states.items() if state == "leased")
        if not leased:
            return
        image = self.random.choice(leased)
        self.valkey.client.zadd("weavloader:leased", {image: 1})
        answer = self.ledger.lease(self.by_id[image])
        assert answer == Refusal("waiting")
        self.model.deaths[image] += 1
        self.model.due(image)

    def sweep(self, late: bool = False) -> None:
        found = self.ledger.sweep(now=time.time() + 10_000 if late else None)
        expected = set()
        for image, state in list(self.model.states.items()):
            if state == "waiting" or (late and state == "leased"):
                self.model.deaths[image] += state == "leased"
                self.model.due(image)
                if self.model.states[image] == "queued":
                    expected.add(image)
        assert sorted(record.id for record in found) == sorted(expected)
        assert all(record == self.by_id[record.id] for record in found)

    def sweep_late(self) -> None:
        if self.random.random() < 0.2:
            self.sweep(late=True)

    def replay(self) -> None:
        some = self.some()
        queued = [record.id for record in self.ledger.letters.replay(some)]
        assert queued == [image for image in some if image in self.model.letters]
        for image in queued:
            self.model.letters.remove(image)
            self.model.afresh(image)

    def discard(self) -> None:
        if self.random.random() < 0.2:
            some = self.some()
            there = self.model.letters.intersection(some)
            assert self.ledger.letters.discard(some) == len(there)
            self.model.letters -= there
            for image in there & set(self.model.orders):  # the object that it had is there still
                self.model.states[image] = "landed"
                del self.model.orders[image]

    def reopen(self) -> None:
        some = self.some()
        stored = self.random.random() < 0.5
        opened = self.ledger.reopen([self.by_id[image] for image in some], stored=stored)
        assert [record.id for record in opened] == [i for i in some if self.model.states.get(i) == "landed"]
        for record in opened:
            self.model.afresh(record.id)
            if stored:
                self.model.reopened.add(record.id)

    def redo(self) -> None:
        some, order = self.some(), self.random.choice(ORDERS)
        queued = self.ledger.redo(order, [self.by_id[image] for image in some])
        wanted = [image for image in some if self.model.states.get(image) in (None, "landed")]
        assert [record.id for record in queued] == wanted
        for image in wanted:
            self.model.afresh(image)
            self.model.orders[image] = order

    def forget(self) -> None:
        if self.random.random() > 0.05:
            return
        some = self.random.sample([*sorted(self.by_id), make_skipped(0).id], 2)
        begun = self.ledger.forgetting.begin(some, "command", 100)
        states = {image: self.model.states.get(image) for image in some}
        assert list(begun.unknown) == [image for image in some if states[image] is None]
        assert list(begun.again) == [image for image in some if states[image] == "forgotten"]
        assert list(begun.new) == [image for image in some if states[image] not in (None, "forgotten")]
        for image in begun.new:
            self.model.states[image] = "forgotten"
            self.model.orders.pop(image, None)
            self.model.letters.discard(image)

    def cancel(self) -> None:
        if self.random.random() < 0.3:
            some = self.some()
            ended = self.ledger.unfinished.cancel(some, 100)
            assert ended == [i for i in some if self.model.states.get(i) in ("queued", "waiting", "apart")]
            for image in ended:
                landed = self.model.orders.pop(image, None) or image in self.model.reopened
                self.model.states[image] = "landed" if landed else "skipped"

    def check(self) -> None:
        assert self.ledger.audit() == self.model.audit()
        assert self.ledger.letters.count() == len(self.model.letters)
        assert sum(self.ledger.letters.causes().values()) == len(self.model.letters)
        for image in self.by_id:
            standing = self.ledger.standing(image)
            assert (standing.state if standing else None) == self.model.shown(image)
            assert bool(standing and standing.redo) == (image in self.model.orders)
            if standing and standing.record:
                assert standing.record == self.by_id[image]
                assert standing.attempts == self.model.attempts[image]
                assert standing.deaths == self.model.deaths[image]


@pytest.mark.parametrize("seed", [1, NEW_SEED])
def test_the_ledger_does_what_the_model_does(valkey: Valkey, seed: int) -> None:
    print(f"seed {seed}")
    jobs = Jobs(broker_url=valkey.url, lease=1000, lost_after=10**6)
    with Ledger(jobs) as ledger:
        walk = Walk(ledger, valkey, seed)
        for number in range(STEPS):
            operation = walk.step()
            try:
                walk.check()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, step {number}, {operation}: {error}") from error
        assert walk.model.audit().difference == 0
        stray = [
            key
            for key in valkey.client.keys("weavloader:image:*")
            if walk.model.states[key.removeprefix("weavloader:image:")] not in ("queued", "waiting", "apart", "leased")
        ]
        under_way = [order for image, order in walk.model.orders.items() if image not in walk.model.letters]
        assert set(valkey.client.hvals("weavloader:redo:orders")) == {order.to_text() for order in under_way}
        assert sum(map(int, valkey.client.hvals("weavloader:redo:images"))) == len(under_way)
        assert stray == [], "finished images leave only their trace"
