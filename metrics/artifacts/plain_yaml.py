"""The little of YAML that our files need: mappings and lists of strings and numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*")
_RESERVED = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def as_yaml(value: Mapping[str, Any], comment: str = "") -> str:
    """The document, with a comment above it."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [line for key, item in value.items() for line in _entry(f"{key}:", item)]
    return [line for item in value for line in _item(item)]


def _entry(key: str, value: Any) -> list[str]:
    if isinstance(value, (Mapping, list, tuple)) and value:
        return [key, *(f"  {line}" for line in _lines(value))]
    if _is_text(value):
        return [f"{key} |", *(f"  {line}" for line in value.splitlines())]
    return [f"{key} {_scalar(value)}"]


def _item(value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        first, *rest = _lines(value)
        return [f"- {first}", *(f"  {line}" for line in rest)]
    if _is_text(value):
        return ["- |", *(f"  {line}" for line in value.splitlines())]
    return [f"- {_scalar(value)}"]


def _is_text(value: Any) -> bool:
    """Whether it is shown as it is, line by line: several whole lines without anything that a block would change."""
    if not isinstance(value, str) or not re.fullmatch(r"(?:[ -~\u00a0-\ud7ff\ue000-\ufffd]*\n){2,}", value):
        return False
    return not value.startswith((" ", "\n")) and not value.endswith("\n\n")


def _scalar(value: Any) -> str:
    """As it is where that is unmistakable, else as JSON, which is YAML too."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)
