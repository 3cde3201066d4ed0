"""The arithmetic of `docs/sizing.md`: from measured constants to what a number of images a day, or in all, needs.

A constant is a row of the kept results where its measurement has run; where not, the value in this file, which says
what it comes from. `python -m benchmarks.sizing` writes the page's tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from benchmarks.table import ROOT, kept_rows
from settings import Jobs

DOCUMENT = ROOT / "docs" / "sizing.md"
DAY = 86_400
_MARKS = re.compile(r"(<!-- (constants|rates|images) -->\n).*?(<!-- /\2 -->)", re.S)


@dataclass(frozen=True)
class Constant:
    """One measured number. ``row`` is the pattern of the result's whole name, '' where no row tells it."""

    symbol: str
    words: str
    value: float
    source: str
    row: str = ""


CONSTANTS = (
    Constant("c", "CPU-ms of a processor an image, 640x480", 10, "a first look: what an image takes of its processor",
             r"2 processors, models of 16 \+ 4 n ms, .*: CPU-ms an image of the processors"),
    Constant("v", "CPU-ms of Valkey an image", 0.43, "", "the product, ports that do nothing: CPU-ms of Valkey"),
    Constant("g", "images/s of one model server (the light models, on CPU)", 30.77, "",
             "light models: images/s of Triton alone"),
    Constant("s", "CPU-ms of Weaviate an object landed", 1.0, "a first look: 0.8 to 1.2 in a nearly empty store",
             r"100,000 objects stored: CPU-ms of Weaviate an object"),
    Constant("q", "bytes of Valkey a queued image", 3200, "a first look: 3,189 with 1,000 queued",
             r"memory of Valkey a queued job, of 100,000, bytes"),
    Constant("i", "bytes of Valkey an image in flight", 936, "the highest of ADR 0002"),
    Constant("f", "bytes of Valkey a finished image", 41, "the highest of ADR 0002"),
    Constant("k", "days for which finished images are remembered", Jobs().finished_days, "WEAVLOADER_FINISHED_DAYS"),
    Constant("e", "MB of Weaviate with 1,000 objects", 126, "a first look: resident, when empty",
             r"1,000 objects stored: resident memory of Weaviate, MB"),
    Constant("w", "MB of Weaviate with 10,000 objects", 460, "a first look: resident, caches and garbage included",
             r"10,000 objects stored: resident memory of Weaviate, MB"),
    Constant("h", "MB of Weaviate with 100,000 objects", 1000, "not measured",
             r"100,000 objects stored: resident memory of Weaviate, MB"),
    Constant("d", "numbers of a vector", 384, "the light embedder; 1024 with the larger ones"),
    Constant("m", "connections of the index (HNSW)", 42, "the product's schema"),
    Constant("r", "memory of Weaviate over what is in use", 2, "an assumption: Go's default garbage collector"),
    Constant("t", "bytes of a thumbnail", 24000, "most are near it"),
)  # fmt: skip
#: The sizes of the table: images in all, and the days in which they come, evenly.
SIZES = (10**6, 10**7, 10**8, 10**9)
DAYS = 365

Values = Mapping[str, float]


def constants() -> dict[str, float]:
    """Each symbol's value: as last measured where a row tells it."""
    rows = kept_rows()
    found = {}
    for constant in CONSTANTS:
        told = [row["value"] for row in rows if constant.row and re.fullmatch(constant.row, row["name"])]
        found[constant.symbol] = float(told[0] if told else constant.value)
    return found


def index_bytes(of: Values, dimensions: float | None = None) -> float:
    """Memory of the vector index an object: float32 numbers, and 2 m links of up to 8 bytes in its lowest layer; r
    times that, so that the garbage collector has room.
    """
    return of["r"] * (4 * (of["d"] if dimensions is None else dimensions) + 8 * 2 * of["m"])


#: What one of each gives a day, in images: what it is, and how many (of the constants).
RATES: tuple[tuple[str, Callable[[Values], float]], ...] = (
    ("processor process, its core full", lambda of: DAY * 1000 / of["c"]),
    ("model server with the light models, on two shared cores", lambda of: DAY * of["g"]),
    ("GPU at 1 caption/s", lambda of: DAY),
    ("GPU at 5 captions/s", lambda of: DAY * 5),
)

#: Each column of the page: its head, and what it gives for (constants, images a year).
COLUMNS: tuple[tuple[str, Callable[[Values, int], str]], ...] = (
    ("images/s", lambda of, n: f"{n / DAYS / DAY:.3g}"),
    ("processor cores", lambda of, n: str(ceil(n / DAYS / DAY * of["c"] / 1000))),
    ("model servers", lambda of, n: str(ceil(n / DAYS / DAY / of["g"]))),
    ("GPUs at 1 caption/s", lambda of, n: str(ceil(n / DAYS / DAY))),
    ("GPUs at 5 captions/s", lambda of, n: str(ceil(n / DAYS / DAY / 5))),
    ("Valkey core", lambda of, n: f"{n / DAYS / DAY * of['v'] / 1000:.2%}"),
    ("Valkey, finished", lambda of, n: size(n / DAYS * of["k"] * of["f"])),
    ("Valkey, a day queued", lambda of, n: size(n / DAYS * of["q"])),
    ("index, 384 numbers", lambda of, n: size(n * index_bytes(of))),
    ("index, 1024 numbers", lambda of, n: size(n * index_bytes(of, 1024))),
    ("thumbnails", lambda of, n: size(n * of["t"] * 4 / 3)),
)


def size(count: float) -> str:
    """Bytes with three digits and a unit of 1000s."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def constants_table(of: Values) -> str:
    """The page's constants."""
    lines = ["| | | value | from |", "|---|---|---|---|"]
    names = {row["name"]: row["command"] for row in kept_rows()}
    for constant in CONSTANTS:
        told = [command for name, command in names.items() if constant.row and re.fullmatch(constant.row, name)]
        source = f"`{told[0]}`" if told else constant.source or "before"
        lines.append(f"| {constant.symbol} | {constant.words} | {of[constant.symbol]:g} | {source} |")
    return "\n".join(lines)


def rates_table(of: Values) -> str:
    """What one of each gives a day."""
    lines = ["| one | images a day |", "|---|---|", *(f"| {name} | {rate(of):,.0f} |" for name, rate in RATES)]
    return "\n".join(lines)


def images_table(of: Values) -> str:
    """What each number of images needs, by the constants."""
    lines = ["| images a year | " + " | ".join(head for head, _ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {n:,} | " + " | ".join(formula(of, n) for _, formula in COLUMNS) + " |" for n in SIZES]
    return "\n".join(lines)


def with_sizing(text: str) -> str:
    """The page with its tables as the constants make them."""
    of = constants()
    tables = {"constants": constants_table(of), "rates": rates_table(of), "images": images_table(of)}
    return _MARKS.sub(lambda mark: f"{mark[1]}{tables[mark[2]]}\n{mark[3]}", text)


def write() -> None:
    """Write the page's tables anew."""
    DOCUMENT.write_text(with_sizing(DOCUMENT.read_text()))


if __name__ == "__main__":
    write()
