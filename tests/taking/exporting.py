"""Exports in a process of its own, which kills itself where it is told to; prints its most resident memory in kB.

`python -m tests.taking.exporting SECTION OUT FORMAT VECTORS PART_ROWS KILL [UNTIL]`: SECTION is the store's settings as
JSON; KILL is the step to die at.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

from records import SearchFilters
from searching import Finder
from settings import Settings, Weaviate
from taking import parquet
from taking.export import Export, Question
from tests.taking.dying import die_at


async def run(section: Weaviate, question: Question, out: Path) -> None:
    async with aclosing(Finder(Settings(weaviate=section))) as finder:
        await Export(finder, question, out).run()


def main() -> None:
    parquet.GROUP_ROWS = 500  # so that exports of a thousand rows have full groups too
    section, out, kind, vectors, rows, kill, *until = sys.argv[1:]
    die_at(int(kill))
    filters = SearchFilters(until=datetime.fromisoformat(until[0]) if until else None)
    question = Question({"since": None, "until": None}, filters, kind, vectors == "vectors", int(rows))
    asyncio.run(run(Weaviate(**json.loads(section)), question, Path(out)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
