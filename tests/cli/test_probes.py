"""The parts' canaries do not get in each other's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Importing the store's SDK is made to take until another part has answered.
SLOW_IMPORT = """
import sys, threading

imports, answered, over = threading.Event(), threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "client":
            imports.set()
            answered.wait(30)
            over.set()

sys.meta_path.insert(0, Slow())

from commands.probes import Probes
from records import PartState
from settings import Settings, Weaviate

async def quick():
    return PartState(True, "quick", "")

with Probes(Settings(weaviate=Weaviate(host="127.0.0.1", port=1, grpc_port=1))) as probes:
    asking = threading.Thread(target=probes.weaviate)
    asking.start()
    imports.wait()
    assert probes._ask(quick).ok
    assert not over.is_set(), "it was waited for the import"
    answered.set()
    asking.join()
"""


def test_what_a_part_takes_to_import_does_not_count_against_the_others() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SLOW_IMPORT], cwd=root, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
