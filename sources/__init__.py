"""Where images come from: the SAGE stream, replays of folders and videos, and what is known of their nodes."""

from sources.fetching import ImageFetcher
from sources.logins import LoginMemory
from sources.places import NodePlaces
from sources.sage import Poller, sage_address

__all__ = ["ImageFetcher", "LoginMemory", "NodePlaces", "Poller", "sage_address"]
