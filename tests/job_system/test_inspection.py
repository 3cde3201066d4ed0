"""Which roles live: what workers answer and what the others say of themselves."""

from __future__ import annotations

import sys

from ledger import Ledger
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.workers import Commands

ASK_ALL = """
from concurrent.futures import ThreadPoolExecutor
from commands.probes import Probes
from settings import load

with Probes(load().settings) as probes, ThreadPoolExecutor(4) as pool:
    asked = [probes.role(name) for name in ("processor", "moderator", "cleaner", "stream")]
    for state in pool.map(lambda ask: ask(), asked):
        print(state.ok, state.detail)
    print(asked[0]().ok)
"""


def broadcasts(valkey: Valkey) -> int:
    return int(valkey.client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])


def test_one_question_to_the_workers_serves_all_who_ask(commands: Commands, ledger: Ledger, valkey: Valkey) -> None:
    for role in ("processor", "moderator", "cleaner"):
        ledger.beat(f"{role}@host:1", 60)
    before = broadcasts(valkey)
    done = commands.run(sys.executable, "-c", ASK_ALL)
    stuck = "False 1 alive, but no worker answered in 1.5 s"
    assert done.stdout.splitlines() == [stuck, stuck, stuck, "False no stream runs", "False"], done.stderr
    assert broadcasts(valkey) - before == 1


def test_a_worker_of_all_queues_plays_all_their_roles(commands: Commands, ledger: Ledger) -> None:
    commands.celery("job_system", "worker").says("worker ready")
    wait_until(lambda: len(ledger.roles()) == 3)
    done = commands.run(sys.executable, "-c", ASK_ALL)
    assert done.stdout.splitlines() == ["True 1 answered"] * 3 + ["False no stream runs", "True"], done.stderr
