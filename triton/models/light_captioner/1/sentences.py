"""Plain English from findings: counts, articles, plurals. No model, no guess beyond what was found."""

from collections import Counter

LEAST_OBJECT = 0.5
SURE_TAG = 0.5
POSSIBLE_TAG = 0.15
KEYWORD_TAG = 0.05
DARK = 0.15

_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_PLURALS = {
    "person": "people",
    "mouse": "mice",
    "knife": "knives",
    "sheep": "sheep",
    "skis": "pairs of skis",
    "scissors": "pairs of scissors",
    "broccoli": "pieces of broccoli",
}
_SINGULARS = {"skis": "a pair of skis", "scissors": "a pair of scissors", "broccoli": "a piece of broccoli"}
_PLURAL_LABELS = {"binoculars", "parallel bars", "sunglasses", "swimming trunks"}
_UNCOUNTABLE_LABELS = {"brass", "coral fungus", "guacamole", "corn", "honeycomb", "toilet tissue", "velvet", "wool"}
_VOWEL_SOUNDS = ("hourglass",)
_CONSONANT_SOUNDS = ("uni", "eu", "ukulele", "one-")


def caption(findings: dict) -> str:
    """One or two clauses: what the detector counted, then what the tagger takes the picture for."""
    kind = "A dark photo" if findings["brightness"] < DARK else "A photo"
    objects = _objects(findings)
    looks = _looks(findings)
    if objects and looks:
        return f"{kind} of {objects}; {looks}."
    if objects:
        return f"{kind} of {objects}."
    if looks:
        return f"{kind}; {looks}."
    return f"{kind} in which nothing was recognised."


def keywords(findings: dict) -> list[str]:
    """The counted objects, most frequent first, then the tags, best first; each once."""
    counted = [name for name, _ in _counts(findings)]
    tags = [label for label, probability in findings["tags"] if probability >= KEYWORD_TAG]
    return list(dict.fromkeys(counted + tags))


def _counts(findings: dict) -> list[tuple[str, int]]:
    return Counter(name for name, score, _ in findings["objects"] if score >= LEAST_OBJECT).most_common()


def _objects(findings: dict) -> str:
    return listed([counted(name, count) for name, count in _counts(findings)], "and")


def _looks(findings: dict) -> str:
    tags = [(label, probability) for label, probability in findings["tags"] if probability >= POSSIBLE_TAG]
    if tags and tags[0][1] >= SURE_TAG:
        return f"it looks like {with_article(tags[0][0])}"
    if tags:
        return f"it may be {listed([with_article(label) for label, _ in tags], 'or')}"
    return ""


def counted(name: str, count: int) -> str:
    """``counted("person", 3)`` is "three people"."""
    if count == 1:
        return _SINGULARS.get(name) or with_article(name)
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"{number} {_PLURALS.get(name) or plural(name)}"


def plural(name: str) -> str:
    """The regular plural."""
    if name.endswith(("s", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def with_article(label: str) -> str:
    """The label with a or an, where English wants one."""
    if label in _PLURAL_LABELS or label in _UNCOUNTABLE_LABELS:
        return label
    word = label.lower()
    vowel = word.startswith(_VOWEL_SOUNDS) or (word[0] in "aeiou" and not word.startswith(_CONSONANT_SOUNDS))
    return f"{'an' if vowel else 'a'} {label}"


def listed(items: list[str], word: str) -> str:
    """``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}" if items else ""
