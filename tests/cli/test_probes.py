"""The parts' canaries do not get in each other's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Importing the store's SDK is made to take as long as on a machine with much to do.
SLOW_IMPORT = """
import sys, threading, time

imports = threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "client":
            imports.set()
            time.sleep(3)

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
    began = time.monotonic()
    assert probes._ask(quick).ok
    took = time.monotonic() - began
    asking.join()
print(took)
"""


def test_what_a_part_takes_to_import_does_not_count_against_the_others() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SLOW_IMPORT], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2
