"""Where images come from: the SAGE stream, replays of folders and videos, a person's own pictures, and what is known of
nodes.
"""

from sources.fetching import ImageFetcher
from sources.logins import LoginMemory
from sources.own import OwnFiles
from sources.places import NodePlaces
from sources.sage import Poller, sage_address

__all__ = ["ImageFetcher", "LoginMemory", "NodePlaces", "OwnFiles", "Poller", "sage_address"]
