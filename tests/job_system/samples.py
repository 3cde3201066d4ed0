"""Image records whose URL's host says what becomes of them (see ``light_app.py``)."""

from __future__ import annotations

from records import ImageRecord, format_timestamp, image_id


def image(what: str = "landed", number: int = 0, captured_ns: int = 1_700_000_000_000_000_000) -> ImageRecord:
    url = f"http://{what}/{number}.jpg"
    return ImageRecord(
        id=image_id("test", url),
        source="test",
        url=url,
        timestamp=format_timestamp(captured_ns),
        captured_ns=captured_ns,
        filename=f"{number}.jpg",
        vsn="W001",
        camera="top",
    )


def images(count: int, what: str = "landed") -> list[ImageRecord]:
    return [image(what, number) for number in range(count)]
