"""Every query of the dashboard, the rules and the alerts has an answer on a real Prometheus that scraped a real run."""

from __future__ import annotations

import io
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from PIL import Image

from metrics import catalog
from metrics.artifacts.__main__ import FOLDER
from metrics.artifacts.panels import ROWS
from metrics.artifacts.plain_yaml import as_yaml
from metrics.artifacts.rules import ALERTS, RECORDED
from metrics.artifacts.scraping import RULE_FILES, TARGETS, configuration
from tests.fixtures.house import House, eventually, free_ports, started_house
from tests.fixtures.prometheus import Prometheus, running_prometheus
from tests.fixtures.sage import LocalSage

pytestmark = [pytest.mark.debian("prometheus"), pytest.mark.debian("redis-exporter")]

LANDED = 'sum(weavloader_tasks_total{outcome="landed"})'
HOUR = 3600 * 1_000_000_000
PANEL_QUERIES = [query for _, row in ROWS for panel in row for query, _ in panel.queries]
QUERIES = list(dict.fromkeys([*PANEL_QUERIES, *RECORDED, *(alert.query for alert in ALERTS)]))
#: What makes a panel show 0 where there is no series: by it a query of a name that nothing writes has an answer, too.
OR_NOTHING = re.compile(r" or vector\(\d+\)")
#: What the run has no series of, nor of an image that kills a worker: in it nobody forgets, makes again, replays,
#: throws away, watches or reindexes.
NOT_IN_THE_RUN = (
    catalog.IMAGES_FORGOTTEN,
    catalog.IMAGES_REDONE,
    catalog.DLQ_REPROCESSED,
    catalog.DLQ_THROWN_AWAY,
    catalog.WATCHED,
    catalog.WATCH_MATCHES,
    catalog.WEBHOOK_POSTS,
    catalog.REINDEX_IMAGES,
)


def bare(query: str) -> str:
    """The query without what answers in its place, unless the run rightly has nothing to answer with."""
    away = 'kind="poison"' in query or any(metric.name in query for metric in NOT_IN_THE_RUN)
    return query if away else OR_NOTHING.sub("", query)


def jpeg(number: int) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (320, 240), (number % 256, 90, 200)).save(output, "JPEG")
    return output.getvalue()


def upload(sage: LocalSage, batch: int) -> int:
    """Good pictures, and of each what goes wrong one: how many images."""
    now = time.time_ns()
    for number in range(6):
        sage.upload(f"/api/v1/data/{batch}/{number}.jpg", now - number, jpeg(10 * batch + number))
    sage.upload(f"/api/v1/data/{batch}/damaged.jpg", now, b"<html>sorry</html>", filename="damaged.jpg")
    gone, protected = f"/api/v1/data/{batch}/gone.jpg", f"/api/v1/data/{batch}/protected.jpg"
    sage.upload(gone, now - 2 * HOUR, filename="gone.jpg")
    sage.answer(gone, status=404)
    sage.upload(protected, now, filename="protected.jpg")
    sage.answer(protected, status=403)
    late = f"/api/v1/data/{batch}/late.jpg"
    sage.upload(late, now, filename="late.jpg")
    sage.answer(late, status=404)
    eventually(lambda: sage.count(late), 60)
    sage.answer(late, jpeg(99), login=True)
    return 10


@contextmanager
def exporter(house: House, port: int, binary: Path, log: Path) -> Iterator[None]:
    redis = f"redis://127.0.0.1:{house.environment['WEAVLOADER_REDIS_PORT']}"
    command = (binary, f"--redis.addr={redis}", f"--web.listen-address=127.0.0.1:{port}")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def prometheus(debian: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One with what two batches of images left in it."""
    folder = tmp_path_factory.mktemp("dashboards")
    exported, weaviate = free_ports(2)
    with LocalSage() as sage, ExitStack() as stack:
        house = stack.enter_context(started_house(folder, **settings_of(sage, weaviate)))
        stack.enter_context(exporter(house, exported, debian("prometheus-redis-exporter"), folder / "exporter.log"))
        ports = {
            "weavloader": house.environment["WEAVLOADER_METRICS_PORT"],
            "redis": exported,
            "weaviate": weaviate,
            "triton": house.environment["WEAVLOADER_TRITON_METRICS_PORT"],
        }
        targets: Mapping[str, tuple[str, ...]] = {job: (f"127.0.0.1:{ports[job]}",) for job in TARGETS}
        rules = tuple(str(FOLDER / name) for name in RULE_FILES)
        text = as_yaml(configuration(targets, seconds=1, rules=rules))
        running = stack.enter_context(running_prometheus(debian("prometheus"), folder, text))
        seen = 0
        for batch in range(2):  # what a counter had when it was first scraped is no increase
            seen += upload(sage, batch)
            house.quiet(seen)
            eventually(lambda seen=seen: value(running, 'max(weavloader_ledger_images{state="seen"})') == seen, 30)
            eventually(lambda batch=batch: value(running, LANDED) == 7 * (batch + 1), 30)
        calibrated = house.run("calibrate", "--seconds", "1", "--in-flight", "4")
        assert calibrated.returncode == 0, calibrated.stdout + calibrated.stderr
        yield running


def settings_of(sage: LocalSage, weaviate: int) -> dict[str, str]:
    section = sage.section
    return {
        "SAGE_USER": section.user,
        "SAGE_PASS": section.password,
        "WEAVLOADER_SAGE_QUERY_URL": section.query_url,
        "WEAVLOADER_SAGE_STORAGE_URL": section.storage_url,
        "WEAVLOADER_SAGE_MANIFEST_URL": section.manifest_url,
        "WEAVLOADER_ALLOWED_HOSTS": sage.host,
        "WEAVLOADER_START_BACK": "36000",
        "WEAVLOADER_OVERLAP": "36000",
        "WEAVLOADER_RETRY_DELAYS": "1,1,1,1,1,1",
        "WEAVLOADER_WEAVIATE_METRICS_PORT": str(weaviate),
    }


def ask(prometheus: Prometheus, query: str) -> list[tuple[dict[str, str], float]]:
    """The series that a query gives, NaN left out."""
    found = [(item["metric"], float(item["value"][1])) for item in prometheus.ask(query)]
    return [(labels, number) for labels, number in found if number == number]


def value(prometheus: Prometheus, query: str) -> float | None:
    found = ask(prometheus, query)
    return found[0][1] if found else None


def test_every_query_has_an_answer(prometheus: Prometheus) -> None:
    silent = list(dict.fromkeys(map(bare, QUERIES)))

    def all_answer() -> bool:
        silent[:] = [query for query in silent if not ask(prometheus, query)]
        return not silent

    try:
        eventually(all_answer, 30)
    except AssertionError:
        assert silent == []


def test_every_server_is_scraped(prometheus: Prometheus) -> None:
    wanted = dict.fromkeys(TARGETS, 1.0)
    eventually(lambda: {labels["job"]: up for labels, up in ask(prometheus, "up")} == wanted, 30)


def test_flowers_metrics_are_scraped_with_ours(prometheus: Prometheus) -> None:
    assert eventually(lambda: ask(prometheus, "weavloader_flower_events_total"), 30)


def test_nothing_is_on_fire_after_a_run_that_was_well(prometheus: Prometheus) -> None:
    firing = {labels["alertname"] for labels, _ in ask(prometheus, 'ALERTS{alertstate="firing",severity="critical"}')}
    assert firing <= {"WeavloaderDiskNearReadOnly"}, "this machine's disk may be full"
