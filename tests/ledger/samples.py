"""Records, letters and small questions that the ledger's tests share."""

from __future__ import annotations

import time

from ledger import Lease, Ledger, Refusal
from records import DeadLetter, ImageRecord, SkippedRecord, image_id


def make_record(number: int, source: str = "sage") -> ImageRecord:
    """A record as long as SAGE's are."""
    ns = 1_659_971_088_820_981_933 + number
    url = (
        "https://storage.sagecontinuum.org/api/v1/data/imagesampler-bottom-2726/sage-imagesampler-0.3.7/"
        f"000048b02d15bdc2/{ns}-sample.jpg"
    )
    return ImageRecord(
        id=image_id(source, url),
        source=source,
        url=url,
        timestamp="2022-08-08T15:04:48.820981933Z",
        captured_ns=ns,
        filename="sample.jpg",
        vsn="W02F",
        node="000048b02d15bdc2",
        camera="bottom_camera",
        host="000048b02d15bdc2.ws-nxcore",
        job="imagesampler-bottom-2726",
        plugin="registry.sagecontinuum.org/theone/imagesampler:0.3.7",
        task="imagesampler-bottom",
        zone="core",
    )


def make_records(count: int, first: int = 0) -> list[ImageRecord]:
    return [make_record(number) for number in range(first, first + count)]


def make_skipped(number: int, reason: str = "denied_node") -> SkippedRecord:
    return SkippedRecord(id=image_id("sage", f"skipped {number}"), source="sage", reason=reason)


def make_letter(record: ImageRecord, cause: str = "not_found", kind: str = "permanent", **changes: float) -> DeadLetter:
    return DeadLetter(
        task_id=record.id,
        record=record.to_message(),
        cause=cause,
        kind=kind,
        error=f"the image answers {cause}",
        traceback="Traceback …",
        attempts=int(changes.get("attempts", 1)),
        when=changes.get("when", time.time()),
    )


def take(ledger: Ledger, record: ImageRecord) -> Lease:
    lease = ledger.lease(record)
    assert isinstance(lease, Lease), lease
    return lease


def take_suspect(ledger: Ledger) -> Lease:
    taken = ledger.lease_suspect()
    assert taken is not None
    return taken[1]


def refused(ledger: Ledger, record: ImageRecord) -> str:
    refusal = ledger.lease(record)
    assert isinstance(refusal, Refusal), refusal
    return refusal.reason


def bury(ledger: Ledger, record: ImageRecord, cause: str = "not_found", kind: str = "permanent", **at: float) -> None:
    assert ledger.bury(take(ledger, record), make_letter(record, cause, kind, **at))


def state(ledger: Ledger, record: ImageRecord) -> str | None:
    standing = ledger.standing(record.id)
    return None if standing is None else standing.state
