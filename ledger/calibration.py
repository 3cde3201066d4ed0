"""The last calibration, beside the ledger's other keys: all roles of an installation take the same ceiling."""

from __future__ import annotations

import json

from ledger.connection import PREFIX, Connection
from records import Calibration

KEY = f"{PREFIX}calibration"


def keep(connection: Connection, calibration: Calibration) -> None:
    """See ``Ledger.keep_calibration``."""
    connection.command("SET", KEY, json.dumps(calibration.to_json(), separators=(",", ":")))


def read(text: str | None) -> Calibration | None:
    """What the key holds; None where it holds nothing, or what this version cannot read."""
    try:
        return None if text is None else Calibration.from_json(json.loads(text))
    except ValueError:
        return None
