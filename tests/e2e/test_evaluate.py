"""`evaluate` as a user runs it: a folder's queries against a running product."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.fixtures.house import House
from tests.fixtures.pictures import marked

QUERIES = {"a cup of coffee": "coffee.png", "a cat": "chelsea.png", "a rocket": "rocket.jpg", "a flower": "flower.jpg"}
#: That of the dataset's pictures: no other test's.
CAMERA = "evaluated"


@pytest.fixture(scope="module")
def dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, and a query for each of them in two categories."""
    folder = tmp_path_factory.mktemp("evaluate") / CAMERA
    folder.mkdir()
    lines = []
    for number, (query, name) in enumerate(QUERIES.items()):
        own = name.replace(".jpg", ".png")
        marked(photos / name, folder / own, (1, 2, 3))
        lines.append(json.dumps({"query": query, "relevant": [own], "category": ("things", "living")[number % 2]}))
    (folder / "queries.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def landed(house: House, dataset: Path) -> House:
    """The house, with the dataset's pictures in the store."""
    done = house.run("add", str(dataset), "--until-landed", timeout=120)
    assert done.returncode == 0, done.stderr
    return house


def test_pictures_that_are_not_in_the_store_are_named_first(landed: House, dataset: Path, tmp_path: Path) -> None:
    other = shutil.copytree(dataset, tmp_path / "other")
    with (other / "coffee.png").open("ab") as file:
        file.write(b"another content")
    done = landed.run("evaluate", str(other))
    assert (done.returncode, done.stdout) == (2, "")
    assert "1 of the dataset's 4 pictures are not in the store (coffee.png, …)" in done.stderr
    assert "python main.py add" in done.stderr


def test_measures_by_alpha_and_category_with_a_verdict(landed: House, dataset: Path, tmp_path: Path) -> None:
    plot, out = tmp_path / "plot.png", tmp_path / "report.json"
    words = ("--alphas", "0,0.5,1", "--k", "3", "--plot", str(plot), "--out", str(out))
    found = landed.json("evaluate", str(dataset), *words)
    assert (found["pictures"], found["queries"], found["k"]) == (4, 4, 3)
    assert set(found["means"]) == {"all queries", "things", "living"}
    assert set(found["means"]["all queries"]) == {"0", "0.5", "1"}
    for of_alpha in found["means"]["all queries"].values():
        for one in of_alpha.values():
            assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
    # four plain pictures of four plain things: nearly all stand first
    assert found["means"]["all queries"]["0.5"]["mrr"]["value"] >= 0.75
    assert found["best_alpha"] == 0.5
    assert set(found["hybrid_against"]) == {"keyword alone", "vector alone"}
    assert {gain["verdict"] for gain in found["hybrid_against"].values()} <= {"better", "worse", "a tie"}
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert json.loads(out.read_text()) == found


def test_people_read_a_table_for_each_category(landed: House, dataset: Path) -> None:
    done = landed.run("evaluate", str(dataset), "--alphas", "0,0.4,1")
    assert done.returncode == 0, done.stderr
    for said in ("all queries (4)", "things (2)", "living (2)", "ndcg@10 returned", "hybrid (alpha 0.4) against"):
        assert said in done.stdout


@pytest.mark.parametrize("alphas", ["", "2", "half"])
def test_alphas_that_are_none_are_refused_by_name(house: House, dataset: Path, alphas: str) -> None:
    done = house.run("evaluate", str(dataset), "--alphas", alphas)
    assert done.returncode == 2
    assert f"--alphas '{alphas}'" in done.stderr


def test_a_reranker_is_measured_against_none(landed: House, dataset: Path) -> None:
    words = ("--alphas", "0,0.5,1", "--k", "3", "--reranker", "light_reranker")
    found = landed.json("evaluate", str(dataset), *words)
    gains = found["reranker_against_none"]
    assert set(gains) == set(found["means"]["all queries"]["0.5"])
    for gain in gains.values():
        assert gain["low"] <= gain["value"] <= gain["high"]
        assert gain["verdict"] in ("better", "worse", "a tie")
    said = landed.run("evaluate", str(dataset), *words).stdout
    assert "with the reranker against without (alpha 0.5)" in said


def test_with_a_reranker_configured_a_search_is_in_its_order(landed: House) -> None:
    """Its best fifty are: a query that the captions answer has the right picture first."""
    chosen = {"WEAVLOADER_RERANKER": "light_reranker"}
    found = landed.json("search", "a photo of a cat", "--camera", CAMERA, "--limit", "3", **chosen)["results"]
    assert found[0]["filename"] == "chelsea.png"
    assert len(found) == 3


def test_a_reranker_that_the_server_does_not_have_is_named(landed: House) -> None:
    done = landed.run("search", "a cat", WEAVLOADER_RERANKER="nothing_like_it")
    assert done.returncode == 3
    assert "nothing_like_it" in done.stderr
