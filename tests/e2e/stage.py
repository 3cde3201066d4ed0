"""Where the sessions of docs are played: a running product, a SAGE with a past, a webhook's receiver, a desk."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from PIL import Image

from ledger import Ledger
from settings import load
from sources.own import FOLDER
from tests.e2e.meanwhile import MEANWHILE
from tests.e2e.pages import Cue
from tests.e2e.terminal import given
from tests.fixtures.house import ROOT, House, eventually, started_house
from tests.fixtures.sage import LocalSage
from tests.fixtures.webhooks import Receiver

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

    def run(self, command: str, cues: Sequence[Cue] = ()) -> tuple[str, str]:
        """What the command prints, at the desk, and what it says on standard error. What the cues name happens."""
        in_turn = f"(exit {self._code}); {command}"
        output, errors, self._code = given(in_turn, self.desk, self._environment, cues, self.happens)
        return output, errors

    def happens(self, what: str) -> None:
        """Let something happen."""
        MEANWHILE[what](self)

    def clear(self) -> None:
        """An empty product, and an empty desk."""
        self._code = 0
        self.sage.clear()
        self.hook.always = None
        self.lose_all()
        shutil.rmtree(self.house.data / FOLDER, ignore_errors=True)  # of own pictures
        eventually(self._is_up, 60)
        for path in self.desk.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.desk / "main.py").symlink_to(ROOT / "main.py")

    def lose_ledger(self) -> None:
        """Everything in the Valkey is gone."""
        with closing(redis.Redis(port=int(self.house.environment["WEAVLOADER_REDIS_PORT"]))) as client:
            client.flushdb()

    def lose_all(self) -> None:
        """Nothing is left in the store either."""
        assert self.house.run("forget", "--all", "--yes").returncode == 0
        self.lose_ledger()

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

    def upload(self, ns: int, vsn: str, camera: str, photo: str, name: str = "", most: int | None = None) -> str:
        """A picture of the stream, or so many bytes of it; its path."""
        name = f"{name or photo}.jpg"
        path, task = f"/data/{vsn}-{camera}-{name}", f"imagesampler-{camera}"
        self.sage.upload(path, ns, self.photo(photo)[:most], vsn=vsn, camera=camera, task=task, filename=name)
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
