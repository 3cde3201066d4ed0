"""A dataset is a folder of pictures and a file of queries, in two forms, INQUIRE's columns among them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from errors import UsageError
from evaluation.dataset import read
from sources.own import own_id

FILES = {"a.jpg": b"first", "deep/b.jpg": b"second", "deep/copy.jpg": b"first", "notes.txt": b"no picture"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def own(name: str) -> str:
    return own_id(hashlib.sha256(FILES[name]).hexdigest())


def test_json_lines_name_the_relevant_pictures_or_their_grades(folder: Path) -> None:
    (folder / "queries.jsonl").write_text(
        '{"query": "a car", "relevant": ["a.jpg"]}\n\n'
        '{"id": "q2", "query": "a tree", "category": "plants", "relevant": {"deep/b.jpg": 2, "a.jpg": 0}}\n'
    )
    first, second = read(folder).queries
    assert (first.id, first.text, first.category, first.relevant) == ("a car", "a car", "", {own("a.jpg"): 1})
    assert (second.id, second.category, second.relevant) == ("q2", "plants", {own("deep/b.jpg"): 2})


def test_pictures_of_one_content_are_one(folder: Path) -> None:
    (folder / "queries.csv").write_text("query,file,relevant\na car,deep/copy.jpg,1\na car,a.jpg,1\n")
    found = read(folder)
    assert found.pictures == {own("a.jpg"): "a.jpg", own("deep/b.jpg"): "deep/b.jpg"}
    assert found.queries[0].relevant == {own("a.jpg"): 1}


def test_inquires_columns_are_read_as_a_table(folder: Path) -> None:
    (folder / "queries.csv").write_text(
        "query,inat24_file_name,relevant,supercategory,category,iconic_group\n"
        "a sick plant,train/b.jpg,1,Species,Plants,Plantae\n"
        "a sick plant,a.jpg,0,Species,Plants,Plantae\n"
    )
    (query,) = read(folder).queries
    assert (query.text, query.category, query.relevant) == ("a sick plant", "Plants", {own("deep/b.jpg"): 1})
    assert read(folder, category="iconic_group").queries[0].category == "Plantae"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("queries.jsonl", "{", "line 1 is no JSON"),
        ("queries.jsonl", '{"relevant": ["a.jpg"]}', 'line 1 has no "query"'),
        ("queries.jsonl", '{"query": "a car"}', 'line 1 has no "relevant"'),
        ("queries.jsonl", '{"query": "a car", "relevant": ["c.jpg"]}', "'c.jpg' is not in"),
        ("queries.jsonl", '{"query": "a car", "relevant": {"a.jpg": "much"}}', "'much' is no grade"),
        ("queries.jsonl", '{"query": "a car", "relevant": []}', "nothing is relevant to 'a car'"),
        ("queries.jsonl", "", "holds no queries"),
        ("queries.csv", "query,relevant\na car,1\n", "no column file or filename or inat24_file_name"),
        ("queries.csv", "query,file,relevant\n,a.jpg,1\n", "line 2 has no query or no picture"),
        ("queries.csv", "id,query,file,relevant\n1,a car,a.jpg,1\n1,a tree,a.jpg,1\n", "is that of another query"),
        ("other.csv", "query,file,relevant\n", "there are no queries"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        read(folder)
    assert said in str(caught.value)


def test_a_name_that_several_pictures_have_needs_its_path(folder: Path) -> None:
    (folder / "deep" / "a.jpg").write_bytes(b"third")
    (folder / "queries.csv").write_text("query,file,relevant\na car,elsewhere/a.jpg,1\n")
    with pytest.raises(UsageError, match="give its path below that folder"):
        read(folder)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queries.csv").write_text("query,file,relevant\n")
    with pytest.raises(UsageError, match="holds no pictures"):
        read(tmp_path)
