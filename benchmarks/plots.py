"""`python -m benchmarks.plots`: draw the curves of the kept results into docs/plots/, as PNG.

The same results give the same bytes with the pinned matplotlib. A curve of which no row is kept is not drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.table import ROOT, kept_rows

FOLDER = ROOT / "docs" / "plots"
DOCUMENT = ROOT / "docs" / "performance.md"
_MARKS = re.compile(r"(<!-- plots -->\n).*?(<!-- /plots -->)", re.S)
#: One look for each line of a panel, told apart without colour too.
LOOKS = (("#0b5394", "o", "-"), ("#b45f06", "s", "--"), ("#38761d", "^", ":"))


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ``lines``: label to pattern of rows' names, whose one group is the place on the x axis."""

    x: str
    y: str
    lines: Mapping[str, str]
    log: bool = False


@dataclass(frozen=True)
class Plot:
    """One picture: its file's name, its title, the command whose rows it draws, and its panels."""

    name: str
    title: str
    command: str
    panels: Sequence[Panel]


_MODELS = {"models of 0 + 0 n ms": r"0 \+ 0 n ms", "models of 16 + 4 n ms": r"16 \+ 4 n ms"}
PLOTS = (
    Plot(
        "knee",
        "End to end beside the model server's ceiling",
        "python -m benchmarks knee",
        [
            Panel(
                "ceiling of the model server, images/s",
                "images/s end to end / ceiling",
                {size: rf"{size}, ceiling (\d+)/s: ratio" for size in ("640x480", "1080p")},
            )
        ],
    ),
    Plot(
        "processors",
        "With more processors on the same cores",
        "python -m benchmarks processors",
        [
            Panel(
                "processors",
                y,
                {label: rf"(\d+) processors?, models of {part}, .*: {y}" for label, part in _MODELS.items()},
            )
            for y in ("images/s", "CPU-ms an image of the processors")
        ],
    ),
    Plot(
        "queued",
        "A job's cost with a long queue",
        "python -m benchmarks queued",
        [
            Panel(
                "jobs queued",
                "CPU-ms a job",
                {
                    "published and worked off": r"([\d,]+) queued: CPU-ms a job, published and worked off",
                    "of these, Valkey": r"([\d,]+) queued: CPU-ms of Valkey a job",
                },
                log=True,
            )
        ],
    ),
    Plot(
        "stored",
        "With more objects in the store",
        "python -m benchmarks stored",
        [
            Panel(
                "objects stored",
                "CPU-ms an object landed",
                {
                    "Weaviate": r"([\d,]+) objects stored: CPU-ms of Weaviate an object",
                    "the landing process": r"([\d,]+) objects stored: CPU-ms of the process an object",
                },
                log=True,
            ),
            Panel(
                "objects stored",
                "hybrid search, ms",
                {"median": r"([\d,]+) objects stored: hybrid search, ms"},
                log=True,
            ),
        ],
    ),
)


def points(rows: Iterable[Mapping[str, Any]], command: str, pattern: str) -> list[tuple[float, float]]:
    """Place and value of each row of the command whose whole name fits the pattern, from left to right."""
    of = [row for row in rows if row["command"] == command]
    fits = [(re.fullmatch(pattern, row["name"]), row["value"]) for row in of]
    return sorted((float(fit[1].replace(",", "")), value) for fit, value in fits if fit)


def draw(plot: Plot, rows: Sequence[Mapping[str, Any]], folder: Path) -> Path | None:
    """Write one plot; None where no row is of it."""
    lines = [[(label, points(rows, plot.command, how)) for label, how in panel.lines.items()] for panel in plot.panels]
    if not any(found for panel in lines for _, found in panel):
        return None
    figure = Figure(figsize=(6.4 * len(plot.panels), 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(plot.title)
    for number, (panel, drawn) in enumerate(zip(plot.panels, lines, strict=True), 1):
        axes = figure.add_subplot(1, len(plot.panels), number)
        for (label, found), (colour, marker, style) in zip(drawn, LOOKS, strict=False):
            if found:
                axes.plot(*zip(*found, strict=True), color=colour, marker=marker, linestyle=style, label=label)
        if panel.log:
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.grid(visible=True, alpha=0.3)
        if axes.lines:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(axes.lines), frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plot.name}.png"
    figure.savefig(path, metadata={"Software": None})
    return path


def draw_all(folder: Path = FOLDER) -> list[Path]:
    """Draw what is kept; gives the files."""
    rows = kept_rows()
    return [path for plot in PLOTS if (path := draw(plot, rows, folder)) is not None]


def with_plots(text: str, folder: Path = FOLDER) -> str:
    """A document of `docs/` with the plots that there are between its marks."""
    there = [plot for plot in PLOTS if (folder / f"{plot.name}.png").exists()]
    shown = "".join(f"![{plot.title}](plots/{plot.name}.png)\n" for plot in there)
    return _MARKS.sub(lambda mark: mark[1] + shown + mark[2], text)


if __name__ == "__main__":
    for drawn_file in draw_all():
        print(drawn_file)
    DOCUMENT.write_text(with_plots(DOCUMENT.read_text()))
