"""What has really become of every image of a run, in the way of Jepsen's checkers: nobody's word is believed.

An image that was attempted must be in exactly one place. It has landed when the store gives its object by id, shows it
when searched by its own vector, and (for a sample) by the words of its caption; it is dead when its letter can be read;
it is skipped, forgotten or pending when the ledger says so and the store has no object. All else is lost, or there
twice.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ledger import Ledger
from settings import Settings
from store.schema import VECTOR  # before the SDK itself: store silences a warning that importing it gives
from tests.chaos.pictures import vector_of

# isort: split

import weaviate
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.classes.query import MetadataQuery

CAPTIONER = "chaos_captioner"
#: What is counted of a run, in the order of its line; of these what there must be none of in the end.
COUNTS = ("attempted", "landed", "dead", "skipped", "forgotten", "pending", "lost", "duplicated", "model_calls")
NEVER = ("pending", "lost", "duplicated")
NUMBER = re.compile(r"Picture number (\d+)")

_PAGE = 200
_SEARCHES = 4  # at a time
_NEIGHBOURS = (5, 100)
_EQUAL = 1e-5  # cosine distance; told apart at their landing, equal vectors differ by some 1e-6
_RIGHT = 0.999  # cosine of the stored vector and the one that the models make of the picture
_WORDS_SAMPLE = 20


class Checked(Protocol):
    """What of a world is looked at. ``attempted`` are all images that were put into its stream: id to number."""

    @property
    def settings(self) -> Settings: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def attempted(self) -> Mapping[str, int]: ...

    def calls(self, model: str) -> Counter[int]: ...


@dataclass(frozen=True)
class Tally:
    """A run in numbers, by the words of ``COUNTS``, and a line for everything that is not as it must be.

    ``landed`` and ``dead`` are what was found, not what the ledger counts; ``difference`` is the ledger's own audit;
    ``model_calls`` are pictures that the captioner was given.
    """

    counts: Counter[str] = field(default_factory=Counter)
    difference: int = 0
    by_cause: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    @property
    def clean(self) -> bool:
        """Whether every image is in exactly one place and at rest, and the ledger says the same."""
        return not (self.difference or self.findings or any(self[name] for name in NEVER))


@dataclass(frozen=True)
class _Stored:
    link: str
    number: int | None


class _Findings:
    """What is wrong, by image and as lines."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.duplicated: set[str] = set()
        self.lines: list[str] = []

    def lose(self, image: str, why: str) -> None:
        self.lost.add(image)
        self.lines.append(f"lost {image}: {why}")

    def duplicate(self, image: str, why: str) -> None:
        self.duplicated.add(image)
        self.lines.append(f"twice {image}: {why}")


def check(world: Checked) -> Tally:
    """Look at everything; to be called when the run is quiet. Raises what the servers' clients raise."""
    attempted, ledger, found = world.attempted, world.ledger, _Findings()
    with store_client(world.settings) as client:
        name = world.settings.weaviate.collection
        collection = client.collections.use(name) if client.collections.exists(name) else None  # nothing ever landed
        stored = dict(_listed(collection)) if collection else {}
        by_id = _vectors(collection, list(attempted)) if collection else {}
        unseen = _not_searchable(collection, by_id) if collection else set()
        wordless = _not_found_by_words(collection, by_id, stored) if collection else set()
    letters = {letter.task_id: letter.cause for letter in ledger.letters.list(limit=len(attempted) + 10_000)}
    states = {image: standing.state for image, standing in ledger.standings(list(attempted)).items()}
    places: Counter[str] = Counter()
    for image in attempted:
        state = states.get(image, "unknown")
        if image in by_id:
            places["landed"] += 1
            if image in unseen:
                found.lose(image, f"in the store, but not found by its own vector (ledger: {state})")
            elif image in wordless:
                found.lose(image, f"in the store, but not found by its caption's words (ledger: {state})")
            elif np.dot(by_id[image], vector_of(attempted[image])) < _RIGHT:
                found.lose(image, "in the store, but its vector is not its picture's")
            if image in letters or state in ("dead", "skipped", "forgotten"):
                found.duplicate(image, f"in the store, and {state} by the ledger")
            elif state != "landed":
                found.lines.append(f"in the store, but {state} by the ledger: {image}")
                places["pending"] += state in ("queued", "waiting", "leased")
        elif image in letters and state == "dead":
            places["dead"] += 1
        elif state in ("skipped", "forgotten"):
            places[state] += 1
        elif state in ("queued", "waiting", "leased"):
            places["pending"] += 1
            found.lines.append(f"pending {image}: {state}")
        else:
            found.lose(image, f"nowhere to be found (ledger: {state}, letter: {letters.get(image, 'none')})")
    _look_for_copies(stored, attempted, found)
    _compare_audit(ledger, places, set(letters) - set(attempted), found)
    counts = {
        **places,
        "attempted": len(attempted),
        "landed": places["landed"] - len(found.lost & set(by_id)),
        "lost": len(found.lost),
        "duplicated": len(found.duplicated),
        "model_calls": sum(world.calls(CAPTIONER).values()),
    }
    return Tally(
        Counter(counts),
        difference=ledger.audit().difference,
        by_cause=dict(Counter(letters[image] for image in letters if image in attempted)),
        findings=tuple(found.lines),
    )


def _look_for_copies(stored: Mapping[str, _Stored], attempted: Mapping[str, int], found: _Findings) -> None:
    """One object a picture: by its link, and by the number that the model read in it."""
    for name in ("link", "number"):
        holders: defaultdict[Any, list[str]] = defaultdict(list)
        for image, item in stored.items():
            if (value := getattr(item, name)) not in ("", None):
                holders[value].append(image)
        for value, images in holders.items():
            for surplus in sorted(images, key=lambda image: image not in attempted)[1:]:
                found.duplicate(surplus, f"{len(images)} objects have the {name} {value}")
    for image, item in stored.items():
        if image not in attempted:
            found.lines.append(f"stranger {image}: nobody attempted it ({item.link})")
        elif item.number not in (None, attempted[image]):
            found.lose(image, f"its object shows picture {item.number} instead of {attempted[image]}")


def _compare_audit(ledger: Ledger, places: Counter[str], strangers: set[str], found: _Findings) -> None:
    """The ledger's own counts must say what was found."""
    counts = ledger.audit()
    for name in ("landed", "dead", "skipped", "forgotten"):
        if (counted := getattr(counts, name)) != places[name]:
            found.lines.append(f"the ledger counts {counted} {name}, found were {places[name]}")
    if counts.leased:
        found.lines.append(f"the ledger counts {counts.leased} leased")
    found.lines += [f"letter of a stranger: {image}" for image in sorted(strangers)]


@contextmanager
def store_client(settings: Settings) -> Iterator[weaviate.WeaviateClient]:
    """The SDK's own client of a world's store, past our code."""
    section = settings.weaviate
    seconds = Timeout(init=section.timeout, query=section.timeout, insert=section.timeout)
    client = weaviate.connect_to_custom(
        http_host=section.host,
        http_port=section.http_port,
        http_secure=section.secure,
        grpc_host=section.host,
        grpc_port=section.grpc_port,
        grpc_secure=section.secure,
        auth_credentials=Auth.api_key(section.api_key) if section.api_key else None,
        additional_config=AdditionalConfig(timeout=seconds),
        skip_init_checks=True,
    )
    try:
        yield client
    finally:
        client.close()


def _listed(collection: Any) -> Iterator[tuple[str, _Stored]]:
    """Every object that the whole collection lists, asked for or not."""
    for item in collection.iterator(return_properties=["link", "caption"]):
        number = NUMBER.search(str(item.properties.get("caption") or ""))
        yield str(item.uuid), _Stored(str(item.properties.get("link") or ""), int(number[1]) if number else None)


def _vectors(collection: Any, ids: Sequence[str]) -> dict[str, list[float] | None]:
    """The vector (None: it has none) of each of the ids that the store gives an object for."""
    found: dict[str, list[float] | None] = {}
    for start in range(0, len(ids), _PAGE):
        some = ids[start : start + _PAGE]
        answer = collection.query.fetch_objects_by_ids(
            some, limit=len(some), include_vector=[VECTOR], return_properties=[]
        )
        found.update((str(item.uuid), item.vector.get(VECTOR)) for item in answer.objects)
    return found


def _not_searchable(collection: Any, vectors: Mapping[str, list[float] | None]) -> set[str]:
    """The images that a search by their own vector does not show first, or among those as near as the first.

    No filter: a filtered search is answered past the graph and would find what the graph has lost.
    """

    def searchable(image: str, vector: list[float]) -> bool:
        for limit in _NEIGHBOURS:
            answer = collection.query.near_vector(
                vector,
                target_vector=VECTOR,
                limit=limit,
                return_properties=[],
                return_metadata=MetadataQuery(distance=True),
            )
            if not answer.objects:
                return False
            nearest = answer.objects[0].metadata.distance + _EQUAL
            if image in {str(item.uuid) for item in answer.objects if item.metadata.distance <= nearest}:
                return True
            if answer.objects[-1].metadata.distance > nearest:
                return False
        return False

    with_vector = [(image, vector) for image, vector in vectors.items() if vector]
    with ThreadPoolExecutor(_SEARCHES) as threads:
        answers = list(threads.map(lambda pair: searchable(*pair), with_vector))
    seen = {image for (image, _), answer in zip(with_vector, answers, strict=True) if answer}
    return set(vectors) - seen


def _not_found_by_words(collection: Any, ids: Mapping[str, object], stored: Mapping[str, _Stored]) -> set[str]:
    """Of a sample spread over all, those that a keyword search for the number in their caption does not find."""
    numbered = [(image, stored[image].number) for image in ids if image in stored and stored[image].number is not None]
    missing: set[str] = set()
    for image, number in numbered[:: max(1, len(numbered) // _WORDS_SAMPLE)]:
        answer = collection.query.bm25(f"{number:06d}", query_properties=["caption"], limit=10, return_properties=[])
        if image not in {str(item.uuid) for item in answer.objects}:
            missing.add(image)
    return missing
