"""``celery -A benchmarks.plain_worker worker --pool=prefork``: the plain way from an image's record to an object.

What the clients' own first pages show, step by step and one image at a time: the node's manifest and position asked for
each image, ``requests``, a full decode, raw pixels to models without a batch dimension, the original in the object, one
insert. ``plain_way.py`` starts it. A process keeps its two clients and, as ``requests.get`` does, no HTTP connection.
"""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import redis
import requests
import tritonclient.grpc as triton
import weaviate
from celery import Celery
from numpy.typing import NDArray
from PIL import Image
from weaviate.classes.data import GeoCoordinate
from weaviate.classes.init import Auth

from benchmarks.plain_way import CAPTIONER, COLLECTION, EMBEDDER, LANDED, QUEUE, TASK, VARIABLE, VECTOR
from settings import environment_variable

PROMPT = "Describe the image in one detailed scientific caption, then give 15 keywords."
SECONDS = 60
_WORDS = ("filename", "vsn", "node", "zone", "task", "host", "job", "plugin", "camera")

addresses: dict[str, Any] = json.loads(environment_variable(VARIABLE))
app = Celery("plain", broker=addresses["broker_url"])
app.conf.task_default_queue = QUEUE


@app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def process(record: dict[str, Any]) -> None:
    """Fetch, caption, embed, insert."""
    data = _get(record["url"])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    caption = infer(CAPTIONER, {"image": pixels, "prompt": _bytes(PROMPT)})["answer"][0].decode()
    embedded = infer(EMBEDDER, {"text": _bytes(caption), "image": pixels.astype(np.float32)})
    vector = fuse(embedded["image_embedding"][0], embedded["text_embedding"][0])
    manifest = json.loads(_get(f"{addresses['manifest_url']}{record['vsn']}/"))
    latitude, longitude = position(record) or (manifest["gps_lat"], manifest["gps_lon"])
    _store().insert(
        {
            **{name: record.get(name, "") for name in _WORDS},
            "caption": caption,
            "link": record["url"],
            "timestamp": record["timestamp"],
            "project": manifest["project"],
            "address": manifest["address"],
            "location": GeoCoordinate(latitude=latitude, longitude=longitude),
            "image": base64.b64encode(data).decode(),
        },
        uuid=record["id"],
        vector={VECTOR: vector.tolist()},
    )
    _redis().incr(LANDED)


def position(record: dict[str, Any]) -> tuple[float, float] | None:
    """Where the node was last in the five minutes before the image; None where it does not tell."""
    taken = datetime.fromtimestamp(record["captured_ns"] / 1e9, UTC)
    query = {
        "start": f"{taken - timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{taken:%Y-%m-%dT%H:%M:%SZ}",
        "filter": {"vsn": record["vsn"], "name": "sys.gps.lat|sys.gps.lon"},
    }
    answer = requests.post(addresses["query_url"], json=query, timeout=SECONDS)
    answer.raise_for_status()
    told = {line["name"]: float(line["value"]) for line in map(json.loads, answer.text.splitlines())}
    if told.keys() != {"sys.gps.lat", "sys.gps.lon"}:
        return None
    return told["sys.gps.lat"], told["sys.gps.lon"]


def infer(model: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All outputs of a model."""
    tensors = []
    for name, value in inputs.items():
        kind = {"object": "BYTES", "uint8": "UINT8", "float32": "FP32"}[value.dtype.name]
        tensor = triton.InferInput(name, value.shape, kind)
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    answer = _triton().infer(model, tensors, client_timeout=SECONDS)
    return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


def fuse(image: NDArray[np.float32], text: NDArray[np.float32]) -> NDArray[np.float32]:
    """0.7 of the picture's direction and 0.3 of its caption's, of unit length."""
    mixed = 0.7 * image / np.linalg.norm(image) + 0.3 * text / np.linalg.norm(text)
    return np.asarray(mixed / np.linalg.norm(mixed), np.float32)


def _get(url: str) -> bytes:
    answer = requests.get(url, auth=(addresses["user"], addresses["password"]), timeout=SECONDS)
    answer.raise_for_status()
    return bytes(answer.content)


def _bytes(text: str) -> NDArray[Any]:
    return np.array([text.encode()], np.object_)


# Clients are made by the first task of each child: a gRPC channel does not live through a fork.


@cache
def _triton() -> Any:
    return triton.InferenceServerClient(addresses["triton"])


@cache
def _store() -> Any:
    client = weaviate.connect_to_custom(
        http_host=addresses["weaviate_host"],
        http_port=addresses["weaviate_port"],
        http_secure=False,
        grpc_host=addresses["weaviate_host"],
        grpc_port=addresses["weaviate_grpc_port"],
        grpc_secure=False,
        auth_credentials=Auth.api_key(addresses["weaviate_key"]) if addresses["weaviate_key"] else None,
        skip_init_checks=True,
    )
    return client.collections.use(COLLECTION).data


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(addresses["broker_url"])
