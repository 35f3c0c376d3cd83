"""How alike two names are, and which names of a list are worth comparing: `ALGORITHM`, pinned by its name.

Scores are whole thousandths: 1000 is the same name, 0 nothing in common. Two parts of a name are alike

    1000   where they are equal
     900   where they sound the same (Metaphone of three letters or more, or three consonants or more in common),
           differ in a third of their letters at most, and begin with the same letter, any vowel, or letters that
           stand for each other (J Y, V W, C K Q, S Z); without vowels two consonants are enough
     750   where one begins with the other, which has four letters or more
     700   where one is the initial of the other, or they are a letter apart and sound the same (Jon, John)
    1000 - 1800 x distance / length   by Levenshtein's distance in other cases, two neighbours that
           have changed places counting once; and nothing below 600

Parts are paired best first; what is left over on one side may be two parts of the other side written apart. With `q`
and `l` the shares of each name that found a pair, weighed by length (particles and legal forms weigh one letter), the
score is three quarters of the larger and a quarter of the smaller: a name that is all there is found though the other
one says more. Where a single part of a longer name is all that they have in common, it is the mean of both, less a
tenth.

Invariants. The score is symmetric, and depends on the forms of the names alone. A search asks only names that share a
part, a sound or a beginning, and finds every name of the same form; it compares `COMPARED_MAX` names at most, the most
promising first, and says so where there were more. No threshold takes part in it: a lower one finds the same, and
more."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from zentra.runtime.compliance.names import ELSEWHERE, LIGHT, NORMALISATION, NameForm, sounds

__all__ = ["ALGORITHM", "CUTOFF", "Found", "NameIndex", "score_of"]

ALGORITHM: Final = f"zentra-names-1/{NORMALISATION}"
CUTOFF: Final = 600  # nothing below is reported; a threshold may not be lower
COMPARED_MAX: Final = 1_000  # names compared in one search: some milliseconds
ONE_HIT_MAX: Final = 300  # of those names that share one part of several
_SOUND_LENGTH_MIN: Final = 3
_PREFIX: Final = 4
_VOWELS: Final = frozenset("aeiou")


class Found(Struct, frozen=True, gc=False):
    """A name that is alike: its number in the index, and the score."""

    number: int
    score: int


def score_of(one: NameForm, other: NameForm, known: dict[tuple[str, str], int] | None = None) -> int:
    """Return how alike two names are, in thousandths. `known` remembers what was found of pairs of parts: many names of
    a list share theirs."""
    if one.parts == other.parts:
        return 1000
    return _score(one.parts, other.parts, one.abjad or other.abjad, {} if known is None else known)


def _weight(part: str) -> int:
    return 1 if part in LIGHT else min(len(part), 8)


def _begins(part: str) -> str:
    """Return the letter that a part begins with, or the one that others begin it with."""
    first = part[0]
    return "a" if first in _VOWELS else ELSEWHERE.get(first, first)


def _alike(one: str, other: str, abjad: bool) -> int:
    """Return how alike two different parts are."""
    from rigour._core import raw_levenshtein_cutoff

    short, long = sorted((len(one), len(other)))
    if short == 1:
        return 700 if one[0] == other[0] else 0
    best = 0
    begins = _begins(one) == _begins(other)
    if begins or abjad:
        (sound, bones), (sound_too, bones_too) = sounds(one), sounds(other)
        least = 2 if abjad else _SOUND_LENGTH_MIN
        heard = (sound == sound_too and len(sound) >= least) or (bones == bones_too and len(bones) >= least)
        if heard and (abjad or raw_levenshtein_cutoff(one, other, long) * 3 <= long):
            return 900
        if sound == sound_too and len(sound) > 1 and raw_levenshtein_cutoff(one, other, 1) <= 1:
            best = 700
        if short >= _PREFIX and (one.startswith(other) or other.startswith(one)):
            best = 750
    allowed = long // 4
    if allowed and long - short <= allowed:
        distance = 1 if _exchanged(one, other) else raw_levenshtein_cutoff(one, other, allowed)
        if distance <= allowed:
            best = max(best, 1000 - 1800 * distance // long)
    return best


def _exchanged(one: str, other: str) -> bool:
    """Return whether two parts differ by two neighbours that have changed places."""
    if len(one) != len(other):
        return False
    places = [place for place, letter in enumerate(one) if letter != other[place]]
    return (
        len(places) == 2
        and places[1] == places[0] + 1
        and one[places[0]] == other[places[1]]
        and one[places[1]] == other[places[0]]
    )


def _score(ones: Sequence[str], others: Sequence[str], abjad: bool, known: dict[tuple[str, str], int]) -> int:
    left, right = list(ones), list(others)
    whole_left, whole_right = sum(map(_weight, left)), sum(map(_weight, right))
    found_left = pairs = 0
    for part in ones:
        if part in right:
            left.remove(part)
            right.remove(part)
            found_left += 1000 * _weight(part)
            pairs += part not in LIGHT
    found_right = found_left
    if left and right:
        found = _paired(left, right, abjad, known)
        found_left, found_right, pairs = found_left + found[0], found_right + found[1], pairs + found[2]
    if left and right:
        found = _joined(left, right)
        found_left, found_right, pairs = found_left + found[0], found_right + found[1], pairs + found[2]
        found = _joined(right, left)
        found_left, found_right, pairs = found_left + found[1], found_right + found[0], pairs + found[2]
    shares = sorted((found_left // whole_left, found_right // whole_right))
    if pairs >= 2 or len(ones) == len(others) == 1:
        return (3 * shares[1] + shares[0]) // 4
    return sum(shares) * 45 // 100


def _paired(left: list[str], right: list[str], abjad: bool, known: dict[tuple[str, str], int]) -> tuple[int, int, int]:
    """Take pairs of parts that are alike out of both lists, the best first, and the first by name among equals; return
    what each side found, and how many pairs."""
    options = []
    for one in left:
        for other in right:
            pair = (one, other) if one < other else (other, one)
            alike = known.get(pair)
            if alike is None:
                alike = known[pair] = _alike(one, other, abjad)
            if alike >= CUTOFF:
                options.append((-alike, pair, one, other))
    found_left = found_right = pairs = 0
    for negative, _, one, other in sorted(options):
        if one in left and other in right:
            left.remove(one)
            right.remove(other)
            found_left -= negative * _weight(one)
            found_right -= negative * _weight(other)
            pairs += 1
    return found_left, found_right, pairs


def _joined(apart: list[str], together: list[str]) -> tuple[int, int, int]:
    """Pair what one list has as two parts and the other as one; return what each found, and how many pairs."""
    found_apart = found_together = pairs = 0
    for whole in tuple(together):
        for first in tuple(apart):
            rest = whole.removeprefix(first)
            both = rest in apart if rest != first else apart.count(first) > 1
            if rest and rest != whole and both and first in apart and whole in together:
                apart.remove(first)
                apart.remove(rest)
                together.remove(whole)
                found_apart += 1000 * (_weight(first) + _weight(rest))
                found_together += 1000 * _weight(whole)
                pairs += 2
    return found_apart, found_together, pairs


class NameIndex:
    """The names of a list, and which of them share a part, a sound or a beginning."""

    def __init__(self, forms: Sequence[NameForm]) -> None:
        self.forms = tuple(forms)
        self._same: dict[tuple[str, ...], array[int]] = defaultdict(lambda: array("I"))
        keys: dict[str, array[int]] = defaultdict(lambda: array("I"))
        for number, form in enumerate(self.forms):
            self._same[form.parts].append(number)
            for key in {key for part in form.parts if part not in LIGHT for key in _keys(part, form.abjad)}:
                keys[key].append(number)
            for pair in _pairs(form.parts):
                keys[pair].append(number)
        self._keys = dict(keys)
        self._same = dict(self._same)

    def search(self, form: NameForm) -> tuple[list[Found], bool]:
        """Return the most alike names, best first, and whether all that were worth it were compared."""
        candidates, all_of_them = self._candidates(form)
        found = [Found(number, 1000) for number in self._same.get(form.parts, ())]
        known = {one.number for one in found}
        pairs: dict[bool, dict[tuple[str, str], int]] = {False: {}, True: {}}
        for number in candidates:
            if number not in known:
                other = self.forms[number]
                score = score_of(form, other, pairs[form.abjad or other.abjad])
                if score >= CUTOFF:
                    found.append(Found(number, score))
        found.sort(key=lambda one: (-one.score, one.number))
        return found, all_of_them

    def _candidates(self, form: NameForm) -> tuple[list[int], bool]:
        """Return the names worth comparing, the most promising first; and whether these are all of them."""
        hits: Counter[int] = Counter()
        parts = [part for part in form.parts if part not in LIGHT] or list(form.parts)
        keys = self._keys
        for part in parts:
            shared: set[int] = set()
            for key in _keys(part, form.abjad):
                shared.update(keys.get(key, ()))
            hits.update(shared)
        for pair in _pairs(form.parts):  # what a list writes together
            hits.update(dict.fromkeys(keys.get(pair, ()), 2))
        several = sorted((number for number, count in hits.items() if count > 1), key=lambda n: (-hits[n], n))
        once = sorted(number for number, count in hits.items() if count == 1)
        rare = len(once) <= ONE_HIT_MAX or len(parts) == 1
        worth = several + (once if rare else [])
        return worth[:COMPARED_MAX], len(worth) <= COMPARED_MAX


def _keys(part: str, abjad: bool) -> list[str]:
    """Return what a part is found by: itself, its sound, its consonants, its beginning."""
    sound, bones = sounds(part)
    keys = ["=" + part]
    if len(sound) >= 2:
        keys.append("~" + sound)
    if len(bones) >= 2:
        keys.append("-" + bones)
    if len(part) > _PREFIX:
        keys.append("<" + part[:_PREFIX])
    return keys


def _pairs(parts: Sequence[str]) -> list[str]:
    """Return the short parts of a name written together, in either order: what others write as one."""
    short = [part for part in parts if 1 < len(part) <= 6 and part not in LIGHT]
    if not 2 <= len(short) <= 4:
        return []
    return ["=" + one + other for i, one in enumerate(short) for j, other in enumerate(short) if i != j]
