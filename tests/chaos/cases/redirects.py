"""A source whose images are redirected to where nobody may go, and to where the login may not go."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from tests.chaos import watched
from tests.chaos.case import case
from tests.chaos.pictures import picture
from tests.chaos.world import World
from tests.fixtures.sage import LocalSage

#: Where cloud machines keep their credentials (a link-local address, RFC 3927).
METADATA = "169.254.169.254"
EACH = 5
DEAD = {"host_not_allowed": 2 * EACH, "fetch_failed": EACH}


@case("redirects", expects_dead=DEAD)
def redirects(world: World) -> None:
    """Among 200 pictures some are redirected to 169.254.169.254, to a loopback port that is not allowed, to an allowed
    host with a login in the URL, and to an allowed host: only the last ones land, and no login goes there.
    """
    with LocalSage() as allowed, LocalSage() as forbidden:
        world.change(WEAVLOADER_ALLOWED_HOSTS=f"{world.source.host},{allowed.host}")
        world.upload(range(200))
        _redirected(world, 1000, lambda _: f"http://{METADATA}/latest/meta-data/iam/security-credentials/")
        _redirected(world, 2000, lambda number: forbidden.answer(f"/{number}.jpg", picture(number)))
        _redirected(world, 3000, lambda number: f"http://user:password@{allowed.host}/{number}.jpg")
        _redirected(world, 4000, lambda number: allowed.answer(f"/{number}.jpg", picture(number)) + "?signature=x")
        world.role("moderator")
        world.role("stream")
        watched.processor(world)
        world.quiet()
        _check(world, allowed, forbidden)


def _redirected(world: World, first: int, target: Callable[[int], str]) -> None:
    for number in range(first, first + EACH):
        (image,) = world.upload([number])
        world.source.redirect(urlsplit(world.links[image]).path, target(number), login=True)


def _check(world: World, allowed: LocalSage, forbidden: LocalSage) -> None:
    connected = watched.connections(world)
    hosts = {host for host, _ in connected}
    if forbidden.seen or _port(forbidden) in {port for _, port in connected} or METADATA in hosts:
        raise AssertionError(f"what is not allowed was connected to: {connected}, {forbidden.seen}")
    if _port(allowed) not in {port for _, port in connected}:
        raise AssertionError(f"connections are not written down: {connected}")
    if len(allowed.seen) != EACH or any(seen.authorization for seen in allowed.seen):
        raise AssertionError(f"the allowed host was asked {[(seen.path, seen.authorization) for seen in allowed.seen]}")


def _port(server: LocalSage) -> int:
    port = urlsplit(server.url("/")).port
    assert port is not None
    return port
