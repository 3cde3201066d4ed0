"""``/health`` and ``/ready`` over real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from errors import ConfigurationError, PartUnavailable
from metrics.scraped import ClusterCounts
from metrics.server import Pace, Probe, serve, serving
from records import AuditCounts, PartState
from settings import Metrics
from tests.fixtures.house import eventually, free_ports

COUNTS = ClusterCounts({}, AuditCounts(0, 0, 0, 0, 0, 0), {}, 0.0)
UP = PartState(True, "it answered", "127.0.0.1:1")


@contextmanager
def endpoint(late: float = 0, deadline: float = 30, **probes: Probe) -> Iterator[str]:
    (port,) = free_ports(1)
    section, pace = Metrics(port=port), Pace(0.05, deadline)
    with serving(section, probes=probes, cluster=lambda: COUNTS, pace=pace, late=lambda: late) as address:
        yield address


def unavailable() -> PartState:
    raise PartUnavailable("weaviate", "Weaviate does not answer at h:1: start it.")


def broken() -> PartState:
    raise RuntimeError("a mistake")


def test_ready_is_200_when_every_part_answers() -> None:
    with endpoint(redis=lambda: UP) as address:
        answer = eventually(lambda: (got := httpx.get(f"{address}/ready")).status_code == 200 and got, 5)
    assert answer.json() == {
        "ready": True,
        "parts": {"redis": {"ok": True, "detail": "it answered", "address": "127.0.0.1:1"}},
    }


def test_ready_is_503_with_the_parts_states_when_one_is_down() -> None:
    with endpoint(redis=lambda: UP, weaviate=unavailable) as address:
        eventually(lambda: "does not answer" in httpx.get(f"{address}/ready").text, 5)
        answer = httpx.get(f"{address}/ready")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert answer.json()["parts"]["redis"]["ok"] is True
    assert answer.json()["parts"]["weaviate"] == {
        "ok": False,
        "detail": "Weaviate does not answer at h:1: start it.",
        "address": "",
    }


def test_ready_follows_a_part_that_comes_and_goes() -> None:
    state = [UP]
    with endpoint(redis=lambda: state[0]) as address:
        for up in (True, False, True):
            state[0] = PartState(up, "", "")
            eventually(lambda wanted=200 if up else 503: httpx.get(f"{address}/ready").status_code == wanted, 5)


def test_a_part_that_has_not_answered_yet_is_not_ready() -> None:
    release = threading.Event()
    with endpoint(triton=lambda: release.wait(10) and UP) as address:
        assert httpx.get(f"{address}/ready").json()["parts"]["triton"]["detail"] == "it has not answered yet"
        release.set()
        eventually(lambda: httpx.get(f"{address}/ready").status_code == 200, 5)


def test_a_probe_that_hangs_is_a_part_that_is_down_and_delays_nobody() -> None:
    hang, release = threading.Event(), threading.Event()

    def triton() -> PartState:
        if hang.is_set():
            release.wait(30)
        return UP

    with endpoint(deadline=0.3, triton=triton, redis=lambda: UP) as address:
        eventually(lambda: httpx.get(f"{address}/ready").status_code == 200, 5)
        hang.set()
        eventually(lambda: "no answer within" in httpx.get(f"{address}/ready").text, 5)
        took = []
        for path in ("ready", "health", "metrics"):
            began = time.perf_counter()
            answer = httpx.get(f"{address}/{path}")
            took.append(time.perf_counter() - began)
        assert answer.text.count("weavloader_component_health{") == 2
        assert max(took) < 2, "an answer waited for the probe"
        release.set()


def test_a_probe_that_raises_anything_is_a_part_that_is_down() -> None:
    with endpoint(triton=broken) as address:
        eventually(lambda: "RuntimeError: a mistake" in httpx.get(f"{address}/ready").text, 5)


def test_health_does_not_depend_on_other_parts() -> None:
    with endpoint(redis=unavailable, triton=broken) as address:
        answer = httpx.get(f"{address}/health")
    assert answer.status_code == 200
    assert answer.json()["alive"] is True


def test_health_and_ready_answer_at_once_on_a_kept_connection() -> None:
    """No answer waits for the client's delayed acknowledgement, which takes 40 ms: each time, busy machine or not."""

    def usually(address: str) -> float:
        with httpx.Client() as client:
            took = []
            for path in ("health", "ready") * 5:
                began = time.perf_counter()
                client.get(f"{address}/{path}")
                took.append(time.perf_counter() - began)
        return sorted(took)[len(took) // 2]

    with endpoint(redis=lambda: UP) as address:
        assert eventually(lambda: usually(address) < 0.03, 20)


def test_metrics_are_served_while_the_cluster_cannot_be_asked() -> None:
    (port,) = free_ports(1)

    def cluster() -> ClusterCounts:
        raise PartUnavailable("redis", "Redis does not answer at h:1.")

    with serving(Metrics(port=port), probes={}, cluster=cluster) as address:
        answer = httpx.get(f"{address}/metrics")
    assert answer.status_code == 200
    assert "weavloader_queue_size{" not in answer.text


def test_an_unknown_address_is_404_that_names_the_known_ones() -> None:
    with endpoint() as address:
        answer = httpx.get(f"{address}/metric")
    assert answer.status_code == 404
    assert "/metrics" in answer.json()["error"]


def test_a_taken_port_is_named_with_its_setting() -> None:
    (port,) = free_ports(1)
    with (
        serving(Metrics(port=port), probes={}, cluster=lambda: COUNTS),
        pytest.raises(ConfigurationError, match=f"{port}.*WEAVLOADER_METRICS_PORT"),
        serving(Metrics(port=port), probes={}, cluster=lambda: COUNTS),
    ):
        pass


def test_the_port_can_be_taken_again_at_once() -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        with serving(Metrics(port=port), probes={}, cluster=lambda: COUNTS) as address:
            assert httpx.get(f"{address}/health").status_code == 200


def test_serve_ends_when_it_is_told_to() -> None:
    (port,) = free_ports(1)
    stop = threading.Event()
    thread = threading.Thread(
        target=serve, args=[Metrics(port=port)], kwargs={"probes": {}, "cluster": lambda: COUNTS, "stop": stop}
    )
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_role_whose_loop_is_overdue_is_not_healthy() -> None:
    with endpoint(late=2.5, redis=lambda: UP) as address:
        answer = eventually(lambda: (got := httpx.get(f"{address}/health")).status_code == 503 and got, 5)
    assert answer.json()["seconds_late"] == 2.5


def test_a_role_that_waits_for_its_broker_is_not_stuck() -> None:
    with endpoint(late=2.5, redis=unavailable) as address:
        eventually(lambda: "does not answer" in httpx.get(f"{address}/ready").text, 5)
        assert httpx.get(f"{address}/health").status_code == 200
