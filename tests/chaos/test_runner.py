"""The verdict: a case passes only when everything is as it must be, and the document shows what was kept of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import report, runner
from tests.chaos.case import Case
from tests.chaos.checker import COUNTS, Tally
from tests.chaos.runner import Result

GOOD = Tally(Counter(attempted=10, landed=7, dead=2, skipped=1, model_calls=8), by_cause={"image_empty": 2})
ROOT_CASE = Case("needs_root", lambda world: None, "mounts something", root=True)


def changed(**changes: Any) -> Tally:
    """The good one with other counts, or other words."""
    told = {name: changes.pop(name) for name in [*changes] if name not in COUNTS}
    return replace(GOOD, counts=Counter({**GOOD.counts, **changes}), **told)


def judged(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], **expected: Any) -> Result:
    world = SimpleNamespace(
        **{
            "expects_dead": 2,
            "expects_skipped": 1,
            "expects_forgotten": 0,
            "most_calls": None,
            "tally": None,
            **expected,
        }
    )
    monkeypatch.setattr(runner, "check", lambda _: changed(**changes))
    result = Result("a_case")
    runner._judge(world, result)  # type: ignore[arg-type]
    return result


def test_a_case_in_which_all_is_as_expected_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    result = judged(monkeypatch, {}, expects_dead={"image_empty": 2}, most_calls=lambda attempted: attempted - 2)
    assert result.why == []
    assert result.to_json()["ok"] is True


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lost": 1, "landed": 6}, "lost is 1"),
        ({"duplicated": 1}, "duplicated is 1"),
        ({"pending": 1}, "pending is 1"),
        ({"difference": -1}, "difference is -1"),
        ({"dead": 3, "landed": 6}, "dead is"),
        ({"skipped": 0, "landed": 8}, "skipped is 0"),
        ({"forgotten": 1, "landed": 6}, "forgotten is 1"),
        ({"landed": 6}, "attempted is not"),
        ({"findings": ("an object that nobody attempted",)}, "nobody attempted"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_whatever_differs_fails_the_case_and_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], why: str
) -> None:
    result = judged(monkeypatch, changes)
    assert not result.ok
    assert any(why in reason for reason in result.why), result.why


def test_a_case_that_judges_itself_is_believed_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not judged(monkeypatch, {}, tally=changed(lost=1)).ok


def test_dead_letters_of_another_cause_fail_a_case_that_names_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not judged(monkeypatch, {}, expects_dead={"poison": 2}).ok


def test_too_many_calls_of_the_captioner_fail_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not judged(monkeypatch, {}, most_calls=lambda attempted: 7).ok


def test_a_case_that_needs_root_fails_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner.os, "geteuid", lambda: 1000)
    result = runner.run_case(ROOT_CASE, tmp_path / "case", SimpleNamespace())  # type: ignore[arg-type]
    assert not result.ok
    assert "needs root" in result.why[0]


def test_a_run_replaces_its_cases_rows_and_the_document_shows_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "latest.json")
    monkeypatch.setattr(report, "DOCUMENT", tmp_path / "reliability.md")
    monkeypatch.setattr(report, "cases", lambda: dict.fromkeys(("calm", "broken"), ROOT_CASE))
    report.DOCUMENT.write_text("before\n<!-- chaos -->\nold\n<!-- /chaos -->\nafter\n")
    report.keep([Result("broken", Tally(Counter(attempted=3, landed=3))), Result("gone", Tally(Counter(attempted=5)))])
    report.keep([Result("calm", Tally(Counter(attempted=1, landed=1)), seconds=1.26, why=["it was lost"])])
    rows = json.loads(report.RESULTS.read_text())
    assert [(row["case"], row["attempted"], row["ok"]) for row in rows] == [("calm", 1, False), ("broken", 3, True)]
    text = report.DOCUMENT.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- /chaos -->\nafter\n")
    assert "| `calm` | 1 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | **no** | 1.3 |" in text
    assert "old" not in text
