"""What was measured, as an object, as lines for people, and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.dataset import Dataset
from evaluation.measures import Mean, Rankings, difference, mean, names, scored, verdict

KEYWORD, VECTOR = 0.0, 1.0
#: The category of queries that name none.
ALL = "all queries"


@dataclass(frozen=True)
class Report:
    """The measures by alpha and query. ``foreign`` counts results that are not the dataset's, which were left out;
    ``reranked`` has the measures by query of the best hybrid alpha with a reranker, where one was tried.
    """

    dataset: Dataset
    k: int
    scores: Mapping[float, Mapping[str, Mapping[str, float]]]
    foreign: int
    reranked: Mapping[str, Mapping[str, float]] | None = None

    @classmethod
    def of(cls, dataset: Dataset, rankings: Mapping[float, Rankings], k: int, foreign: int) -> Report:
        """The report of what was found with each alpha."""
        relevant = {query.id: query.relevant for query in dataset.queries}
        return cls(dataset, k, {alpha: scored(relevant, of, k) for alpha, of in rankings.items()}, foreign)

    def with_reranker(self, rankings: Rankings) -> Report:
        """The report, with what was found with the best hybrid alpha and a reranker."""
        relevant = {query.id: query.relevant for query in self.dataset.queries}
        return replace(self, reranked=scored(relevant, rankings, self.k))

    def groups(self) -> dict[str, list[str]]:
        """The ids of the queries of each category, all of them first."""
        found = {ALL: [query.id for query in self.dataset.queries]}
        for query in self.dataset.queries:
            if query.category:
                found.setdefault(query.category, []).append(query.id)
        return found

    def means(self, queries: Sequence[str], alpha: float) -> dict[str, Mean]:
        """The mean of each measure over these queries."""
        of = self.scores[alpha]
        return {name: mean([of[query][name] for query in queries]) for name in names(self.k)}

    @property
    def main(self) -> str:
        """The measure by which ways of searching are compared."""
        return names(self.k)[0]

    @property
    def best(self) -> float:
        """The hybrid alpha (between keyword and vector alone) with the greatest main measure; of equals the least."""
        every = self.groups()[ALL]
        hybrid = [alpha for alpha in self.scores if alpha not in (KEYWORD, VECTOR)] or list(self.scores)
        return max(hybrid, key=lambda alpha: (self.means(every, alpha)[self.main].value, -alpha))

    def gains(self) -> dict[str, Mean]:
        """What the best hybrid has more than keyword alone and than vector alone, by the main measure."""
        every, best = self.groups()[ALL], self.best
        return {
            name: difference(
                [self.scores[best][query][self.main] for query in every],
                [self.scores[other][query][self.main] for query in every],
            )
            for name, other in (("keyword alone", KEYWORD), ("vector alone", VECTOR))
            if other in self.scores and other != best
        }

    def reranker_gains(self) -> dict[str, Mean]:
        """What a reranker adds to the best hybrid alpha, by each measure; empty where none was tried."""
        if self.reranked is None:
            return {}
        every, plain = self.groups()[ALL], self.scores[self.best]
        return {
            name: difference([self.reranked[query][name] for query in every], [plain[query][name] for query in every])
            for name in names(self.k)
        }

    def to_json(self) -> dict[str, Any]:
        """The object of ``evaluate --json``."""
        return {
            "dataset": self.dataset.name,
            "pictures": len(self.dataset.pictures),
            "queries": len(self.dataset.queries),
            "k": self.k,
            "foreign": self.foreign,
            "means": {
                group: {
                    f"{alpha:g}": {name: asdict(one) for name, one in self.means(queries, alpha).items()}
                    for alpha in self.scores
                }
                for group, queries in self.groups().items()
            },
            "best_alpha": self.best,
            "hybrid_against": {name: {**asdict(gain), "verdict": verdict(gain)} for name, gain in self.gains().items()},
            "reranker_against_none": {
                name: {**asdict(gain), "verdict": verdict(gain)} for name, gain in self.reranker_gains().items()
            },
            "per_query": {
                query.id: {f"{alpha:g}": dict(of[query.id]) for alpha, of in self.scores.items()}
                for query in self.dataset.queries
            },
        }

    def lines(self) -> list[str]:
        """A table a category, and how hybrid does against each alone."""
        found = []
        for group, queries in self.groups().items():
            found += ["", f"{group} ({len(queries)})", "alpha  " + "  ".join(f"{name:>18}" for name in names(self.k))]
            for alpha in self.scores:
                means = self.means(queries, alpha)
                cells = (f"{one.value:.3f} {one.low:.2f}-{one.high:.2f}" for one in means.values())
                found.append(f"{alpha:>5g}  " + "  ".join(f"{cell:>18}" for cell in cells))
        found.append("")
        for name, gain in self.gains().items():
            found.append(
                f"hybrid (alpha {self.best:g}) against {name}: {verdict(gain)}, {self.main} {gain.value:+.3f}"
                f" ({gain.low:+.3f} to {gain.high:+.3f})"
            )
        for name, gain in self.reranker_gains().items():
            found.append(
                f"with the reranker against without (alpha {self.best:g}): {verdict(gain)}, {name} {gain.value:+.3f}"
                f" ({gain.low:+.3f} to {gain.high:+.3f})"
            )
        return found[1:]

    def plot(self, path: Path) -> None:
        """The measures by alpha, with their intervals, as PNG."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(
            title=f"{self.dataset.name}: {len(self.dataset.queries)} queries, {len(self.dataset.pictures)} pictures",
            xlabel="alpha (0: keywords alone, 1: vectors alone)",
            ylabel="mean, with 95% confidence interval",
            ylim=(0, 1.02),
        )
        alphas, every = sorted(self.scores), self.groups()[ALL]
        for name in names(self.k):
            means = [self.means(every, alpha)[name] for alpha in alphas]
            (line,) = axes.plot(alphas, [one.value for one in means], marker="o", label=name)
            lows, highs = [one.low for one in means], [one.high for one in means]
            axes.fill_between(alphas, lows, highs, color=line.get_color(), alpha=0.12)
        axes.legend()
        figure.savefig(path, dpi=120, metadata={"Software": None})
