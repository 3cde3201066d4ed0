"""A script brings what it uses of the part that all of them share, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ledger
from ledger.connection import script_text
from tests.fixtures.redis import Valkey

FOLDER = Path(ledger.__file__).parent / "lua"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem != "common")


def _shared_names() -> set[str]:
    found = re.findall(r"^local (?:function )?([\w, ]+)", (FOLDER / "common.lua").read_text("utf-8"), re.MULTILINE)
    return {name for names in found for name in names.split(", ")}


@pytest.mark.parametrize("name", SCRIPTS)
def test_whatever_a_script_uses_is_defined_before_it(name: str, valkey: Valkey) -> None:
    assert valkey.client.script_load(script_text(name))
    defined: set[str] = set()
    for line in script_text(name).splitlines():
        if found := re.match(r"\s*local (?:function )?([\w, ]+)", line):
            defined.update(found[1].strip().split(", "))
        words = set(re.findall(r"\w+", re.sub(r"'[^']*'", "", line)))
        assert not (words & _shared_names()) - defined, line


def test_what_it_does_not_use_stays_away() -> None:
    whole = (FOLDER / "common.lua").read_text("utf-8")
    assert "local function put_delivery(" in whole
    assert "local function keep_letter(" in whole
    assert "local function outputs(" in script_text("lease")
    assert not re.search("put_delivery|keep_letter|RECENT", script_text("lease"))
    assert "--" not in script_text("lease")
