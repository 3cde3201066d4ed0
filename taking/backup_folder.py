"""The folder of a back-up.

::

    manifest.json       what it is, with every file's bytes and SHA-256; written last: without it there is no back-up
    ledger.jsonl.gz     the ledger, a line a thing (``ledger/copies.py``)
    weaviate/           the server's own back-up of the collection, where it is on this host
    pictures.jsonl.gz   the own pictures, and pictures/ their originals (``backup_pictures.py``), where there are any
    weavloader.toml     the settings that were set, without credentials
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tomllib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from errors import UsageError, WeavloaderError
from settings import Settings, entries
from taking.files import read_json, sha256_of, whole_file, write_json

#: Of what a manifest says. A newer one cannot be put back.
FORMAT = 2
MANIFEST = "manifest.json"
LEDGER = "ledger.jsonl.gz"
STORE = "weaviate"
PICTURES_LIST = "pictures.jsonl.gz"
PICTURES = "pictures"
SETTINGS = "weavloader.toml"
_SEAL = "sha256"
_HERE = ("default", "running stack", "running demo")

#: Is told how far it is: step, done, total (None where it is not known).
Report = Callable[[str, int, int | None], None]


def write_manifest(folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """Make the folder a back-up: the manifest with a checksum of its own. Raises ``WeavloaderError``."""
    manifest = {"format": FORMAT, **told}
    manifest[_SEAL] = _sealed(manifest)
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a back-up.

    Raises ``UsageError`` for a folder that is none, and ``WeavloaderError`` for a damaged one or a newer format.
    """
    manifest = read_json(folder / MANIFEST)
    if manifest is None:
        why = "it has no manifest.json, which comes last" if folder.is_dir() else "there is no such folder"
        raise UsageError(f"{folder} is no back-up: {why}. Give the folder of a finished `python main.py backup`.")
    version = manifest.get("format")
    if not isinstance(version, int) or _SEAL not in manifest:
        raise UsageError(f"{folder} is no back-up: its manifest.json is another command's")
    if version > FORMAT:
        raise WeavloaderError(
            f"{folder} was made by a newer version ({manifest.get('created_by')}, format {version}; this one knows"
            f" {FORMAT}): install that version, then restore"
        )
    if manifest[_SEAL] != _sealed(manifest):
        raise _damaged(folder, MANIFEST, "it is not as it was written")
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any], report: Report) -> None:
    """See that every file is as it was. Raises ``WeavloaderError`` naming the first that is not."""
    total = sum(told["bytes"] for told in manifest["files"])
    done = 0
    for told in manifest["files"]:
        report("checking the back-up, in MB", done // 10**6, total // 10**6)
        path = folder / told["file"]
        try:
            if path.stat().st_size != told["bytes"] or sha256_of(path) != told["sha256"]:
                raise _damaged(folder, told["file"], "its content has changed")
        except OSError as error:
            raise _damaged(folder, told["file"], error.strerror or "it cannot be read") from None
        done += told["bytes"]


def told_file(folder: Path, path: Path) -> dict[str, Any]:
    """A file as the manifest tells it."""
    return {"file": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _damaged(folder: Path, name: str, why: str) -> WeavloaderError:
    return WeavloaderError(f"the back-up {folder} is damaged: {name}: {why}. Take another one.")


def _sealed(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != _SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_lines(path: Path, lines: Iterable[list[Any]]) -> dict[str, int]:
    """Write a ledger's lines; how many there are of each kind, images of traces counted one by one."""
    counts: dict[str, int] = {}
    with (
        whole_file(path) as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed,
    ):
        for line in lines:
            packed.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            counts["lines"] = counts.get("lines", 0) + 1
            counts[line[0]] = counts.get(line[0], 0) + (len(line[1]) if line[0] == "traces" else 1)
    return counts


def read_lines(path: Path) -> Iterator[list[Any]]:
    """The lines again. Raises ``WeavloaderError`` where they cannot be read."""
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise WeavloaderError(f"{path} cannot be read ({error}): take another back-up") from None


def settings_text(settings: Settings, origins: Mapping[str, str]) -> str:
    """The settings that somebody set, as ``weavloader.toml`` has them. Credentials are named, and left out."""
    lines: list[str] = []
    section = ""
    for entry in entries():
        value = getattr(getattr(settings, entry.section), entry.key)
        if origins.get(entry.env, "default") in _HERE:
            continue
        if entry.section != section:
            section = entry.section
            lines.append(f"[{section}]")
        if entry.secret:
            lines.append(f"# {entry.env} was set: credentials are in no back-up")
        else:
            lines.append(f"{entry.key} = {json.dumps(_plain(value), ensure_ascii=False)}")
    return "".join(f"{line}\n" for line in lines)


def settings_apart(text: str, settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings of a back-up that have another value now, by their variables' names."""
    then = tomllib.loads(text)
    apart: dict[str, dict[str, Any]] = {}
    for entry in entries():
        kept = then.get(entry.section, {})
        now = _plain(getattr(getattr(settings, entry.section), entry.key))
        if entry.key in kept and kept[entry.key] != now:
            apart[entry.env] = {"then": kept[entry.key], "now": now}
    return apart


def _plain(value: Any) -> Any:
    """A setting's value as TOML and JSON have it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
