"""What happens between the sessions of docs, or while a command of theirs runs, by the names that the pages call it."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from weaviate.classes.config import Configure, DataType, Property

from tests.fixtures.house import ROOT, eventually

if TYPE_CHECKING:
    from tests.e2e.stage import Stage

HOUR = 3600 * 10**9
NODE = "W02F"
#: The pictures that the source had: hours and minutes ago, counted from a full hour; node, camera and photo.
PAST = (
    (26, 55, NODE, "top", "coffee"),
    (26, 35, NODE, "top", "chelsea"),
    (26, 15, NODE, "bottom", "china"),
    (25, 50, NODE, "top", "rocket"),
    (25, 20, NODE, "bottom", "flower"),
    (25, 10, "W0A5", "top", "china"),
)
#: A day long ago, of whose pictures three quarters are as many as a processor of 64 takes behind live ones.
DAY_NS, OF_DAY = 1_714_521_600 * 10**9, 75
#: A collection of another program: the photos' captions there.
FOREIGN = {
    "coffee": "a cup of coffee on a table",
    "chelsea": "a ginger cat looks to the left",
    "rocket": "a rocket on its pad at night",
}
DIMENSIONS = 384


def _past(stage: Stage) -> None:
    begin = time.time_ns() // HOUR * HOUR
    for hours, minutes, vsn, camera, photo in PAST:
        stage.upload(begin - hours * HOUR - minutes * 60 * 10**9, vsn, camera, photo)


def _come(stage: Stage) -> list[str]:
    """The same pictures, a minute old; their paths."""
    now = time.time_ns()
    return [
        stage.upload(now - (60 - number) * 10**9, vsn, camera, photo)
        for number, (_, _, vsn, camera, photo) in enumerate(PAST)
    ]


def _land(stage: Stage) -> None:
    _come(stage)
    stage.house.quiet(len(PAST))


def _past_lands(stage: Stage) -> None:
    """They land, and are too old to be polled once more when the ledger is lost."""
    _past(stage)
    done = stage.house.run("backfill", "--since", "2d", "--until-landed", timeout=120, **stage.login)
    assert done.returncode == 0, done.stderr


def _garden(stage: Stage) -> None:
    folder = stage.desk / "garden"
    (folder / "gate").mkdir(parents=True)
    for name, photo in (("cat.jpg", "chelsea"), ("flower.jpg", "flower"), ("gate/rocket.jpg", "rocket")):
        (folder / name).write_bytes(stage.photo(photo))
    (folder / "broken.jpg").write_bytes(stage.photo("coffee")[:4000])
    (folder / "notes.txt").write_text("a list of plants\n")
    (stage.desk / "places.csv").write_text(
        "filename,time,lat,lon,camera\ngate/rocket.jpg,2026-03-01T12:00:00+01:00,41.88,-87.62,gate\n"
    )


def _old(stage: Stage) -> None:
    """A picture that was captured long ago lands."""
    folder = stage.desk / "old"
    folder.mkdir()
    (folder / "temple.jpg").write_bytes(stage.photo("china"))
    (stage.desk / "old.csv").write_text("filename,time\ntemple.jpg,2009-01-01T12:00:00Z\n")
    done = stage.house.run("add", str(folder), "--metadata", str(stage.desk / "old.csv"), "--until-landed")
    assert done.returncode == 0, done.stderr


def _retained(stage: Stage) -> None:
    """What the scheduler sends every ten minutes is sent now."""
    before = stage.house.json("audit")["forgotten"]
    send = ["-m", "celery", "-A", "job_system", "call", "job_system.tasks.forget_old_images"]
    subprocess.run([sys.executable, *send], cwd=ROOT, env=stage.house.environment, check=True, capture_output=True)
    eventually(lambda: stage.house.json("audit")["forgotten"] > before, 30)


def _day(stage: Stage) -> None:
    """A day long ago that a backfill does not queue at once: its first 18 hours have as many pictures as go behind live
    ones. Whoever asks the storage for one waits.
    """
    photo, step = stage.photo("coffee"), 24 * HOUR // OF_DAY
    for vsn in (NODE, "W0A5"):
        for number in range(OF_DAY):
            name = f"{number:02}.jpg"
            path, ns = f"/data/day-{vsn}-{name}", DAY_NS + number * step + step // 2
            stage.sage.upload(path, ns, vsn=vsn, camera="top", task="imagesampler-top", filename=name)
            stage.sage.answer(path, photo, login=True, held=True)


def _backfills(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.house.json("backfill", "list")["backfills"]
    return found


def _full(stage: Stage) -> None:
    eventually(lambda: _backfills(stage)[-1]["share_read"] >= 0.75, 60)


def _released(stage: Stage) -> None:
    stage.sage.release()
    eventually(lambda: not any(sum(one["on_way"].values()) for one in _backfills(stage)), 120)


def _over(stage: Stage) -> None:
    eventually(lambda: all(one["state"] in ("done", "cancelled") for one in _backfills(stage)), 120)


def _kitchen(stage: Stage) -> None:
    (stage.desk / "kitchen").mkdir()
    (stage.desk / "kitchen" / "espresso.jpg").write_bytes(stage.photo("coffee"))


def _temple(stage: Stage) -> None:
    """As a browser brings it: under another name until it is complete."""
    coming = stage.desk / "kitchen" / "temple.jpg.part"
    coming.write_bytes(stage.photo("china"))
    coming.rename(coming.with_suffix(""))


def _posted(stage: Stage) -> None:
    eventually(lambda: stage.house.json("watch", "show", "coffee")["counts"]["delivered"], 60)


def _coffee(stage: Stage) -> None:
    """A picture of a cup of coffee lands, and is posted."""
    stage.upload(time.time_ns(), NODE, "top", "coffee", "another")
    _posted(stage)


def _refused(stage: Stage) -> None:
    """The receiver is gone when the next one lands."""
    stage.hook.always = 410
    stage.upload(time.time_ns(), NODE, "bottom", "coffee", "one-more")
    eventually(lambda: stage.house.json("watch", "show", "coffee")["dead"], 60)
    stage.hook.always = None


def _taken(stage: Stage) -> None:
    eventually(lambda: stage.house.json("watch", "show", "coffee")["counts"]["delivered"] == 2, 60)


def _damaged(stage: Stage) -> None:
    for camera in ("top", "bottom"):
        stage.upload(time.time_ns(), NODE, camera, "coffee", most=4000)
    eventually(lambda: stage.house.json("dlq", "stats")["count"] == 2, 60)


def _whole(stage: Stage) -> None:
    for camera in ("top", "bottom"):
        stage.sage.answer(f"/data/{NODE}-{camera}-coffee.jpg", stage.photo("coffee"), login=True)


def _quiet(stage: Stage) -> None:
    stage.house.quiet(0)


def _deleted(stage: Stage) -> None:
    lost = stage.house.json("search", "a cup of coffee", "--limit", "1")["results"][0]["id"]
    with stage.house.sdk() as client:
        assert client.collections.use("HybridSearchExample").data.delete_by_id(lost)


def _login_refused(stage: Stage) -> None:
    """The storage wants another login: what comes waits."""
    for path in _come(stage):
        stage.sage.answer(path, status=401)
    eventually(lambda: stage.house.json("audit")["seen"] == len(PAST), 60)
    eventually(lambda: stage.house.json("audit")["pending"] == len(PAST), 60)


def _foreign(stage: Stage) -> None:
    """Another program's collection; its originals are in SAGE's storage."""
    texts = ("filename", "caption", "link", "timestamp", "vsn", "node", "camera")
    numbers = np.random.default_rng(1)
    with stage.house.sdk() as client:
        client.collections.delete("OldImages")
        collection = client.collections.create(
            "OldImages",
            properties=[
                *(Property(name=text, data_type=DataType.TEXT) for text in texts),
                Property(name="image", data_type=DataType.BLOB),
            ],
            vector_config=Configure.Vectors.self_provided(name="clip"),
        )
        for photo, caption in FOREIGN.items():
            data = stage.photo(photo)
            link = stage.sage.answer(f"/data/old-{photo}.jpg", data, login=True)
            collection.data.insert(
                {
                    "filename": f"{photo}.jpg",
                    "caption": caption,
                    "link": link,
                    "timestamp": "2026-05-01T12:00:00Z",
                    "vsn": NODE,
                    "camera": "top",
                    "image": base64.b64encode(data).decode(),
                },
                vector={"clip": numbers.standard_normal(DIMENSIONS).tolist()},
            )
        collection.data.insert(
            {"caption": "a picture without a link", "timestamp": "2026-05-01T12:00:00Z", "vsn": NODE},
            vector={"clip": numbers.standard_normal(DIMENSIONS).tolist()},
        )


def _adopted(stage: Stage) -> None:
    _foreign(stage)
    words = ("--caption-model", "gemma3", "--embedding-model", "clip")
    assert stage.house.run("adopt", "OldImages", *words).returncode == 0


MEANWHILE: dict[str, Callable[[Stage], None]] = {
    "the stream had pictures": _past,
    "the stream had a day of pictures, and its storage is slow": _day,
    "as many as go behind live pictures are on their way": _full,
    "the storage gives them, and they land": _released,
    "all backfills are over": _over,
    "pictures of the stream land": _land,
    "the stream's past lands": _past_lands,
    "there is a folder of pictures": _garden,
    "a picture of 2009 lands": _old,
    "the scheduler's ten minutes are over": _retained,
    "there is a folder of a kitchen": _kitchen,
    "another picture comes to the kitchen": _temple,
    "the match is posted": _posted,
    "a cup of coffee lands": _coffee,
    "the receiver is gone when another one lands": _refused,
    "the receiver takes it": _taken,
    "two pictures of the stream come damaged": _damaged,
    "the storage has them whole": _whole,
    "nothing is on its way any more": _quiet,
    "an object is deleted in the store": _deleted,
    "the ledger is lost": lambda stage: stage.lose_ledger(),
    "ledger and store are lost": lambda stage: stage.lose_all(),
    "the storage refuses the login": _login_refused,
    "another program has a collection": _foreign,
    "pictures of another program were adopted": _adopted,
}
