"""A dataset: a folder of pictures, and a file of queries that says which of them are relevant.

Two forms of the file are read. JSON lines, a query each: ``{"query": "a red car", "relevant": ["a/1.jpg"]}``, or with
grades ``{"relevant": {"a/1.jpg": 2}}``, and where wanted ``id`` and ``category``. Or a table (CSV) of a query and a
picture a line with the columns ``query``, ``file`` and ``relevant`` (a grade, 0 for not), and where wanted ``id`` and
``category``. INQUIRE's columns (Vendrow et al., 2024: ``query`` or ``query_text``, ``inat24_file_name``, ``relevant``,
``supercategory``, ``category``, ``iconic_group``) are read as such a table.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import UsageError
from sources.own import own_id
from sources.own_folder import read_folder

#: Names of the queries' file that are looked for, the first that is there.
QUERIES = ("queries.jsonl", "queries.csv")
#: Columns by what they mean, the first that is there; INQUIRE's are among them.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "query_text"),
    "file": ("file", "filename", "inat24_file_name"),
    "relevant": ("relevant",),
    "id": ("id", "query_id"),
}
CATEGORIES = ("category", "supercategory", "iconic_group")
#: Files whose names end so are no pictures.
TABLES = (".jsonl", ".json", ".csv", ".txt", ".md")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and the grades of the pictures that are relevant to it by their image ids (greater than 0)."""

    id: str
    text: str
    category: str
    relevant: Mapping[str, int]


@dataclass(frozen=True)
class Dataset:
    """Queries, and the names of the folder's pictures by their image ids (of several of one content one)."""

    name: str
    queries: tuple[Query, ...]
    pictures: Mapping[str, str]


@dataclass
class _Draft:
    text: str
    category: str
    relevant: dict[str, int] = field(default_factory=dict)


def read(folder: Path, queries: Path | None = None, category: str | None = None) -> Dataset:
    """The dataset of a folder; ``category`` names the table's column to part the results by.

    Raises ``UsageError`` that names what is wrong, with its line: a file that is missing, a row that cannot be read, a
    picture that is not in the folder, a query to which nothing is relevant.
    """
    pictures: dict[str, str] = {}
    by_name: dict[str, str] = {}
    by_base: dict[str, set[str]] = {}
    for file in read_folder(folder, folder, lambda _name, _why: None):
        if file.name.lower().endswith(TABLES):
            continue
        image = own_id(_digest(file.path))
        pictures.setdefault(image, file.name)
        by_name[file.name] = image
        by_base.setdefault(file.path.name, set()).add(image)
    if not pictures:
        raise UsageError(f"{folder} holds no pictures")
    path = queries or next((folder / name for name in QUERIES if (folder / name).is_file()), None)
    if path is None or not path.is_file():
        wanted = str(queries) if queries else f"{folder}/{' or '.join(QUERIES)}"
        raise UsageError(f"there are no queries: {wanted} is missing")

    def image_of(name: object, where: str) -> str:
        own = by_name.get(str(name))
        if own is None:
            same = by_base.get(Path(str(name)).name, set())
            own = next(iter(same)) if len(same) == 1 else None
        if own is None:
            raise UsageError(f"{where}: {name!r} is not in {folder}: give its path below that folder")
        return own

    drafts: dict[str, _Draft] = {}
    rows = _lines(path) if path.suffix in (".jsonl", ".json") else _pairs(path, category)
    for where, own, text, group, grades in rows:
        draft = drafts.setdefault(own or text, _Draft(text, group))
        if draft.text != text:
            raise UsageError(f"{where}: the id {own!r} is that of another query, {draft.text!r}")
        for name, grade in grades.items():
            if grade > 0:
                draft.relevant[image_of(name, where)] = grade
    made = tuple(Query(own, draft.text, draft.category, draft.relevant) for own, draft in drafts.items())
    if not made:
        raise UsageError(f"{path} holds no queries")
    if empty := [query for query in made if not query.relevant]:
        raise UsageError(f"{path}: nothing is relevant to {empty[0].text!r}: leave the query out, or name a picture")
    return Dataset(folder.resolve().name, made, pictures)


_Row = tuple[str, str, str, str, Mapping[str, int]]
"""Where it stands, the query's id or '', its text, its category, and grades by picture."""


def _lines(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where} is no JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get("query"), str) or not row["query"].strip():
            raise UsageError(f'{where} has no "query"')
        given = row.get("relevant")
        grades = dict.fromkeys(given, 1) if isinstance(given, list) else given
        if not isinstance(grades, dict):
            raise UsageError(f'{where} has no "relevant": a list of pictures, or their grades')
        yield (
            where,
            str(row.get("id", "")),
            row["query"].strip(),
            str(row.get("category", "")),
            {name: _grade(grade, where) for name, grade in grades.items()},
        )


def _pairs(path: Path, category: str | None) -> Iterator[_Row]:
    reader = csv.DictReader(_text(path).splitlines())
    there = reader.fieldnames or ()
    column = {meaning: next((name for name in names if name in there), "") for meaning, names in COLUMNS.items()}
    if missing := [" or ".join(COLUMNS[meaning]) for meaning in ("query", "file", "relevant") if not column[meaning]]:
        raise UsageError(f"{path} has no column {', no column '.join(missing)}; it has {', '.join(there) or 'none'}")
    if category is not None and category not in there:
        raise UsageError(f"{path} has no column {category!r} for --category; it has {', '.join(there)}")
    group = category or next((name for name in CATEGORIES if name in there), "")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        text, file = (row.get(column["query"]) or "").strip(), (row.get(column["file"]) or "").strip()
        if not text or not file:
            raise UsageError(f"{where} has no query or no picture")
        grades = {file: _grade(row[column["relevant"]], where)}
        yield where, (row.get(column["id"]) or "").strip(), text, (row.get(group) or "").strip(), grades


def _grade(value: Any, where: str) -> int:
    """A grade of relevance: a whole number from 0 to 100, or a truth value."""
    words = {"true": 1, "false": 0}
    try:
        grade = words.get(str(value).strip().lower())
        grade = int(float(value)) if grade is None else grade
    except (TypeError, ValueError, OverflowError):
        grade = -1
    if not 0 <= grade <= 100:
        raise UsageError(f"{where}: {value!r} is no grade: give a whole number from 0 (not relevant) to 100")
    return grade


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}") from None


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                found.update(piece)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({(error.strerror or 'error').lower()})") from None
    return found.hexdigest()
