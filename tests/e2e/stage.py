"""Where the sessions of docs are played: a running product, a SAGE with a past, a webhook's receiver, a desk.

``meanwhile`` is what happens between sessions, by the names that the pages call it.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import redis
from PIL import Image
from weaviate.classes.config import Configure, DataType, Property

from ledger import Ledger
from settings import load
from sources.own import FOLDER
from tests.fixtures.house import ROOT, House, eventually, started_house
from tests.fixtures.sage import LocalSage
from tests.fixtures.webhooks import Receiver

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
#: A collection of another program: the photos' captions there.
FOREIGN = {
    "coffee": "a cup of coffee on a table",
    "chelsea": "a ginger cat looks to the left",
    "rocket": "a rocket on its pad at night",
}
DIMENSIONS = 384
#: The page's admin says this, which the pages call $TOKEN.
TOKEN = "the-admins-word"


@dataclass
class Stage:
    """What the sessions run against."""

    house: House
    sage: LocalSage
    hook: Receiver
    desk: Path
    photos: Path

    @property
    def words(self) -> dict[str, str]:
        """What the pages call things, and what they are here."""
        ports = self.house.environment
        return {
            "https://hooks.example": f"http://{self.hook.host}",
            "https://hooks.example:443": f"http://{self.hook.host}",  # the later is what is shown: an origin has a port
            "https://storage.sagecontinuum.org": f"http://{self.sage.host}",
            "http://127.0.0.1:8000": f"http://127.0.0.1:{ports['WEAVLOADER_WEB_PORT']}",
            "http://127.0.0.1:8090": f"http://127.0.0.1:{ports['WEAVIATE_PORT']}",
            "/home/you/.weavloader": str(self.house.data),
            "/home/you": str(self.desk),
        }

    def run(self, command: str) -> str:
        """What the command prints, at the desk; then what it says on standard error."""
        done = subprocess.run(
            ["bash", "-c", f"(exit {self._code}); {command}"],
            cwd=self.desk,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self._code = done.returncode
        return done.stdout + done.stderr

    def meanwhile(self, what: str) -> None:
        """Let something happen."""
        MEANWHILE[what](self)

    def clear(self) -> None:
        """An empty product, and an empty desk."""
        self._code = 0
        self.sage.clear()
        self.hook.always = None
        _lost(self)
        shutil.rmtree(self.house.data / FOLDER, ignore_errors=True)  # of own pictures
        eventually(self._is_up, 60)
        for path in self.desk.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.desk / "main.py").symlink_to(ROOT / "main.py")

    def lose_ledger(self) -> None:
        """Everything in the Valkey is gone."""
        with closing(redis.Redis(port=int(self.house.environment["WEAVLOADER_REDIS_PORT"]))) as client:
            client.flushdb()

    def _is_up(self) -> bool:
        """Whether every role has told the ledger of itself."""
        with closing(Ledger(load(self.house.environment, self.house.data / "none.toml").settings.jobs)) as ledger:
            roles = ledger.roles()
        return all(any(one.startswith(name) for one in roles) for name in ("moderator", "processor", "cleaner"))

    def photo(self, name: str) -> bytes:
        """A photo as JPEG, without what its file tells of time and place."""
        (path,) = self.photos.glob(f"{name}.*")
        output = io.BytesIO()
        with Image.open(path) as opened:
            opened.convert("RGB").save(output, "JPEG", quality=90)
        return output.getvalue()

    def upload(self, ns: int, vsn: str, camera: str, photo: str, name: str = "") -> str:
        """A picture of the stream; its path."""
        name = f"{name or photo}.jpg"
        path, task = f"/data/{vsn}-{camera}-{name}", f"imagesampler-{camera}"
        self.sage.upload(path, ns, self.photo(photo), vsn=vsn, camera=camera, task=task, filename=name)
        return path

    @property
    def login(self) -> dict[str, str]:
        """What a person exports to be let into the stream."""
        return {name: self.house.environment[name] for name in login_for(self.sage)}

    @property
    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{self.house.environment['PATH']}"
        return {**self.house.environment, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "TOKEN": TOKEN}

    _code = 0


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


def _kitchen(stage: Stage) -> None:
    (stage.desk / "kitchen").mkdir()
    (stage.desk / "kitchen" / "espresso.jpg").write_bytes(stage.photo("coffee"))


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


def _lost(stage: Stage) -> None:
    assert stage.house.run("forget", "--all", "--yes").returncode == 0
    stage.lose_ledger()


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
    "pictures of the stream land": _land,
    "the stream's past lands": _past_lands,
    "there is a folder of pictures": _garden,
    "a picture of 2009 lands": _old,
    "the scheduler's ten minutes are over": _retained,
    "there is a folder of a kitchen": _kitchen,
    "the match is posted": _posted,
    "a cup of coffee lands": _coffee,
    "the receiver is gone when another one lands": _refused,
    "the receiver takes it": _taken,
    "the ledger is lost": Stage.lose_ledger,
    "ledger and store are lost": _lost,
    "the storage refuses the login": _login_refused,
    "another program has a collection": _foreign,
    "pictures of another program were adopted": _adopted,
}


def login_for(sage: LocalSage) -> dict[str, str]:
    """The settings that make it the stream."""
    address = sage.cloud
    return {
        "SAGE_USER": address.user,
        "SAGE_PASS": address.password,
        "WEAVLOADER_SAGE_QUERY_URL": address.query_url,
        "WEAVLOADER_SAGE_STORAGE_URL": address.storage_url,
        "WEAVLOADER_SAGE_MANIFEST_URL": address.manifest_url,
    }


@contextmanager
def staged(folder: Path, photos: Path) -> Iterator[Stage]:
    """A stage while the block runs."""
    desk = folder / "desk"
    desk.mkdir()
    with LocalSage() as sage:
        settings = {**login_for(sage), "WEAVLOADER_KEEP_DAYS": "3650", "WEAVLOADER_WEB_ADMIN_TOKEN": TOKEN}
        with started_house(folder, **settings) as house, Receiver(int(house.webhook_host.rpartition(":")[2])) as hook:
            yield Stage(house, sage, hook, desk, photos)
