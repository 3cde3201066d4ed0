"""Which models the settings file names: the packaged ones, or those that were fetched."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from errors import ConfigurationError
from taking.files import draft_of, settle

#: What each choice writes, by the settings' variables; None leaves the default.
CHOICES: Mapping[str, Mapping[str, str | None]] = {
    "packaged": {"WEAVLOADER_CAPTIONER": None, "WEAVLOADER_EMBEDDER": None},
    "light": {"WEAVLOADER_CAPTIONER": "florence2_captioner", "WEAVLOADER_EMBEDDER": "clip_vit_b32"},
}
#: Where these settings stand in the file.
PLACES = {
    "WEAVLOADER_CAPTIONER": ("triton", "captioner"),
    "WEAVLOADER_EMBEDDER": ("triton", "embedder"),
    "WEAVLOADER_COLLECTION": ("weaviate", "collection"),
}


def write(file: Path, values: Mapping[str, str | None]) -> None:
    """Set these settings in the file, and take those away that are None; all else stays as it is. A reader sees the old
    file or the new one.

    Raises ``ConfigurationError`` where the file is wrong or cannot be written.
    """
    file = file.resolve()
    by_hand = f"write by hand into {file}: {'; '.join(_line(name, value) for name, value in values.items())}"
    try:
        before = file.read_text("utf-8") if file.exists() else ""
        after = before
        for name, value in values.items():
            after = changed(after, *PLACES[name], value)
        if not _is_right(before, after, values):
            raise ConfigurationError(f"{file} has a form that cannot be changed safely: {by_hand}")
        _replace(file, after)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{file} cannot be changed ({why}): {by_hand}") from None


def _replace(file: Path, text: str) -> None:
    draft = draft_of(file)
    for left in file.parent.glob(f".{file.name}.*{draft.suffix}"):  # by a process that was killed
        left.unlink(missing_ok=True)
    try:
        draft.touch(0o600)  # it may hold passwords
        draft.write_text(text, "utf-8")
        if file.exists():
            shutil.copymode(file, draft)
        settle(draft, file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _line(name: str, value: str | None) -> str:
    section, key = PLACES[name]
    return f"[{section}] {key} = {json.dumps(value)}" if value is not None else f"[{section}] without {key}"


def changed(text: str, section: str, key: str, value: str | None) -> str:
    """The text of a settings file with one key of a section set, or taken away."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    made = [] if value is None else [f"{key} = {json.dumps(value)}\n"]
    heads = [number for number, line in enumerate(lines) if re.match(rf"\s*\[\s*{section}\s*\]", line)]
    if not heads:
        return "".join(lines + ([f"[{section}]\n", *made] if made else []))
    begin = heads[0] + 1
    end = next((at for at in range(begin, len(lines)) if re.match(r"\s*\[", lines[at])), len(lines))
    kept = [line for line in lines[begin:end] if not re.match(rf"\s*{key}\s*=", line)]
    return "".join((*lines[:begin], *made, *kept, *lines[end:]))


def _is_right(before: str, after: str, values: Mapping[str, str | None]) -> bool:
    """Whether nothing but these settings is another, by reading both as TOML."""
    wanted = tomllib.loads(before)
    for name, value in values.items():
        section, key = PLACES[name]
        if value is not None:
            wanted.setdefault(section, {})[key] = value
        else:
            wanted.get(section, {}).pop(key, None)
    return tomllib.loads(after) == wanted
