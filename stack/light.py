"""The models that ``models fetch light`` gets from a model hub: pinned, for CPUs, larger than the packaged ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from settings import PROJECT_ROOT

#: Repository, revision, bytes and sums of every file.
LOCK = PROJECT_ROOT / "stack" / "light.json"
#: Where Triton finds their code, beside the repository of the packaged ones.
REPOSITORY = PROJECT_ROOT / "triton" / "hub"


@dataclass(frozen=True)
class WeightFile:
    """One file of a model: its path on the hub, its size, and the SHA-256 sum of its content."""

    path: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name here."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class HubModel:
    """One model: its name in Triton, and an immutable revision (a commit) of a repository on the hub."""

    name: str
    repository: str
    revision: str
    licence: str
    files: tuple[WeightFile, ...]


@cache
def models() -> Mapping[str, HubModel]:
    """The models by their names in Triton."""
    found: dict[str, HubModel] = {}
    for name, entry in json.loads(LOCK.read_text("utf-8")).items():
        files = tuple(WeightFile(**file) for file in entry.pop("files"))
        found[name] = HubModel(name, **entry, files=files)
    return found


def weights(cache_folder: Path) -> Path:
    """The folder that has a folder for each model's files."""
    return cache_folder / "weights"


def place(cache_folder: Path, model: HubModel, file: WeightFile) -> Path:
    """Where a file of a model lies, once it was fetched and checked."""
    return weights(cache_folder) / model.name / file.name


def lacking(cache_folder: Path, name: str) -> list[WeightFile]:
    """The files of a model that are not there in full size."""
    model = models()[name]
    return [file for file in model.files if not _whole(place(cache_folder, model, file), file)]


def _whole(path: Path, file: WeightFile) -> bool:
    try:
        return path.stat().st_size == file.bytes
    except OSError:
        return False
