"""What ``doctor`` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``detail`` says what was found and, unless it is ``ok``, what to do about it."""

    state: State
    name: str
    detail: str
