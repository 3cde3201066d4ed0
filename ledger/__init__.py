"""Where each image is now: states, leases, dead letters and what the roles tell each other, all on Redis."""

from ledger.backfills import Backfill, BackfillLook
from ledger.connection import parse_broker_url
from ledger.forgetting import Forgetting
from ledger.ledger import Ledger
from ledger.letters import Letters
from ledger.neighbours import Node
from ledger.pace import LandingPace
from ledger.registry import Pause, SourceRegistry
from ledger.unfinished import UnfinishedImage
from ledger.values import Death, FinishedImage, Lease, LedgerSnapshot, LetterStats, Refusal, ServerFigures, Standing
from ledger.watches import Watch, Watches

__all__ = [
    "Backfill",
    "BackfillLook",
    "Death",
    "FinishedImage",
    "Forgetting",
    "LandingPace",
    "Lease",
    "Ledger",
    "LedgerSnapshot",
    "LetterStats",
    "Letters",
    "Node",
    "Pause",
    "Refusal",
    "ServerFigures",
    "SourceRegistry",
    "Standing",
    "UnfinishedImage",
    "Watch",
    "Watches",
    "parse_broker_url",
]
