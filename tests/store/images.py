"""Images that are ready to land."""

from __future__ import annotations

import dataclasses

import numpy as np

from records import (
    Caption,
    ImageRecord,
    IndexedImage,
    ModelIdentity,
    Place,
    Vector,
    format_timestamp,
    image_id,
)

DIMENSIONS = 8
START_NS = 1_765_000_000_820_981_933
CHICAGO = Place(41.8818, -87.6232, "SAGE", "Randolph Street, Chicago")


def direction(number: int, dimensions: int = DIMENSIONS) -> Vector:
    vector = np.random.default_rng(number).standard_normal(dimensions)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def image(
    number: int,
    *,
    caption: str = "a quiet street",
    keywords: tuple[str, ...] = (),
    place: Place = CHICAGO,
    vector: Vector | None = None,
    captured_ns: int | None = None,
    **record: str,
) -> IndexedImage:
    when = START_NS + number * 1_000_000_000 if captured_ns is None else captured_ns
    made = ImageRecord(
        id=image_id("test", str(number)),
        source="test",
        url=f"https://storage.example.org/{number}.jpg",
        timestamp=format_timestamp(when),
        captured_ns=when,
        filename=f"{number}.jpg",
        vsn="W02F",
        node="000048b02d15bdc2",
        camera="top_camera",
        host="000048b02d15bdc2.ws-nxcore",
        job="imagesampler",
        plugin="imagesampler:0.3",
        task="imagesampler-top",
        zone="core",
    )
    return IndexedImage(
        record=dataclasses.replace(made, **record),  # type: ignore[arg-type]
        place=place,
        caption=Caption(caption, keywords),
        vector=direction(number) if vector is None else vector,
        thumbnail=b"\xff\xd8 a thumbnail",
        content_hash=f"{number:064x}",
        width=1920,
        height=1080,
        captioner=ModelIdentity("light_captioner", "1", "0f3a"),
        embedder=ModelIdentity("light_embedder", "2"),
    )
