"""The documents say what is: figures as measured, links that lead somewhere, no placeholder left."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from benchmarks import sizing
from benchmarks.table import DOCUMENTS, with_figures
from settings import PROJECT_ROOT, entries
from tests.chaos import report
from tests.chaos.case import cases

#: What the compose files read besides.
NOT_SETTINGS = {"WEAVLOADER_PUBLISH", "WEAVLOADER_SHARED_ADDRESS"}
TEXTS = [*PROJECT_ROOT.glob("*.md"), *(PROJECT_ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_figures_are_those_of_the_last_measurement(document: Path) -> None:
    assert document.read_text() == with_figures(document.read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_table_of_figures_is_empty(document: Path) -> None:
    tables = re.findall(r"<!-- figures (.*?)-->\n(.*?)<!-- /figures -->", document.read_text(), re.S)
    assert tables
    assert [commands for commands, table in tables if len(table.strip().splitlines()) < 3] == []


def test_the_sizing_pages_constants_are_those_of_the_last_measurement() -> None:
    assert sizing.DOCUMENT.read_text() == sizing.with_sizing(sizing.DOCUMENT.read_text())


def test_the_sizing_pages_table_follows_from_its_constants() -> None:
    """Computed anew from the numbers that stand in the page, without the functions that wrote it."""
    text = sizing.DOCUMENT.read_text()
    of = {cells[0]: float(cells[2]) for cells in _cells(text, "constants")}
    index = {numbers: of["r"] * (4 * numbers + 16 * of["m"]) for numbers in (of["d"], 1024)}
    rows = _cells(text, "images")
    assert [int(row[0].replace(",", "")) for row in rows] == [10**6, 10**7, 10**8, 10**9]
    for images, *told in rows:
        count = int(images.replace(",", ""))
        rate = count / 365 / 86_400
        whole = [rate * of["c"] / 1000, rate / of["g"], rate, rate / 5]
        assert [int(cell) for cell in told[1:5]] == [math.ceil(exact) for exact in whole]
        assert float(told[0]) == pytest.approx(rate, rel=0.005)
        assert float(told[5].rstrip("%")) == pytest.approx(rate * of["v"] / 10, abs=0.005)
        sizes = [
            count / 365 * of["k"] * of["f"],
            count / 365 * of["q"],
            *(count * each for each in index.values()),
            count * of["t"] * 4 / 3,
        ]
        assert [_bytes(cell) for cell in told[6:]] == [pytest.approx(exact, rel=0.006) for exact in sizes]


def test_the_sizing_pages_images_a_day_follow_from_its_constants() -> None:
    text = sizing.DOCUMENT.read_text()
    of = {cells[0]: float(cells[2]) for cells in _cells(text, "constants")}
    told = [float(cells[1].replace(",", "")) for cells in _cells(text, "rates")]
    assert told == [pytest.approx(exact, abs=0.5) for exact in (86.4e6 / of["c"], 86_400 * of["g"], 86_400, 432_000)]


def _cells(text: str, mark: str) -> list[list[str]]:
    """The rows of the table between two marks."""
    lines = text.partition(f"<!-- {mark} -->\n")[2].partition("\n<!-- /")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _bytes(cell: str) -> float:
    number, unit = cell.split()
    return float(number) * {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]


def test_the_table_of_the_chaos_cases_is_that_of_their_last_run() -> None:
    text = report.DOCUMENT.read_text()
    assert text == report.with_results(text)


def test_every_chaos_case_has_run_and_passed() -> None:
    passed = [row["case"] for row in report.kept() if row["ok"]]
    assert [name for name, case in cases().items() if not case.long and name not in passed] == []


def test_every_chaos_case_proves_a_promise() -> None:
    promises = report.DOCUMENT.read_text().partition("<!-- chaos -->")[0]
    assert [name for name in cases() if f"`{name}`" not in promises] == []


@pytest.mark.parametrize("document", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", TEXTS, ids=lambda path: path.name)
def test_the_files_that_are_named_are_there(document: Path) -> None:
    """In backticks, with the path from the project's folder; but for a file that the document itself holds."""
    rooms = "|".join(path.name for path in PROJECT_ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
    text = document.read_text()
    named = set(re.findall(rf"`((?:{rooms})/[\w./-]+)`", text)) - set(re.findall(r"^`(\S+)`:$", text, re.M))
    assert [name for name in sorted(named) if not (PROJECT_ROOT / name).exists()] == []


@pytest.mark.parametrize("document", TEXTS, ids=lambda path: path.name)
def test_the_settings_that_are_named_are_there(document: Path) -> None:
    known = {entry.env for entry in entries()}
    named = set(re.findall(r"\bWEAVLOADER_\w+[A-Z]\b", document.read_text()))
    assert sorted(named - known - NOT_SETTINGS) == []


@pytest.mark.parametrize("document", TEXTS, ids=lambda path: path.name)
def test_no_placeholder_is_left(document: Path) -> None:
    assert re.findall(r"\b(?:TODO|TBD|FIXME|[A-Z]+_\d\b|SETUP_\w+)", document.read_text()) == []


def test_every_dependency_is_explained() -> None:
    import tomllib

    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    pinned = [*project["dependencies"], *(pin for pins in project["optional-dependencies"].values() for pin in pins)]
    explained = (PROJECT_ROOT / "docs" / "dependencies.md").read_text()
    names = [re.split(r"[=<>\[]", pin)[0] for pin in pinned]
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", explained)] == []
    assert all("==" in pin for pin in pinned)


def test_the_requirement_files_hold_the_pins() -> None:
    import tomllib

    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    locked = (PROJECT_ROOT / "requirements-dev.txt").read_text().splitlines()
    extras = [pin for pins in project["optional-dependencies"].values() for pin in pins]
    assert [pin for pin in [*project["dependencies"], *extras] if pin not in locked] == []
