"""Whether the role of this container gets on: ``python -S health.py all|role|flower|web``. Exit code 0 or 1.

It runs every few seconds, so it imports little and asks what the role's own endpoint knows anyway. What is away beside
this container (Redis, models, store) is no fault of its own: a restart would not mend it.
"""

import json
import sys
import urllib.error
import urllib.request

SECONDS = 4
ADDRESSES = {
    "all": "http://127.0.0.1:8080/ready",
    "role": "http://127.0.0.1:8080/health",
    "flower": "http://127.0.0.1:5555/healthcheck",
    "web": "http://127.0.0.1:8000/health",
}
ROLES = ("processor", "moderator", "cleaner", "scheduler", "stream")


def answer(address: str) -> tuple[int, bytes]:
    """The status and the body, whatever the status."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=SECONDS) as said:
            return said.status, said.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def why_not(kind: str) -> str:
    """Why the container is not healthy; '' where it is."""
    status, body = answer(ADDRESSES[kind])
    if kind != "all":
        return "" if status == 200 else f"{ADDRESSES[kind]} answered {status}"
    parts = json.loads(body)["parts"]
    if not parts["redis"]["ok"]:  # nobody can tell how the roles are
        return ""
    return "; ".join(f"{role}: {parts[role]['detail']}" for role in ROLES if not parts[role]["ok"])


def main() -> int:
    """Print why the container is not healthy."""
    try:
        why = why_not(sys.argv[1])
    except (OSError, ValueError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
    if why:
        print(why)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
