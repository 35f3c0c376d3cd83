"""Names brought into one form in which spelling, case, accents, script and order of their parts no longer count.

    fold        decomposed, accents and vowel signs dropped, case folded
    cut         into parts, by rigour's tokenizer
    latinize    each part: rigour's table for Latin, Cyrillic, Greek, Armenian and Georgian; anyascii's for every other
                script, where Chinese and Korean fall into syllables and the Arabic article is dropped
    shorten     legal forms to one spelling each (Limited, Ltd and ООО have one apiece)
    sort        the parts, so that their order is gone

Invariants. The form of a name depends on the name and on `NORMALISATION` alone: both libraries are pinned, and tables
of the system (ICU) are never asked, because two machines may have two versions of them. A name without a letter or a
digit, and one that is too long, has no form: whoever asks is told and never gets an empty one.

Both libraries are imported when the first name is looked at: whoever screens nobody needs neither."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.names import LEGAL_CHARACTERS_MAX

__all__ = [
    "LIGHT",
    "NORMALISATION",
    "NameForm",
    "Unscreenable",
    "digest_of_names",
    "form_of",
    "sounds",
]

NORMALISATION: Final = "rigour-2.6.1+anyascii-0.3.3"
PARTS_MAX: Final = 24  # what is compared grows with the square of it
_CASEFOLD: Final = 4  # rigour's flag for input that is casefolded
_ARTICLE: Final = "\u0627\u0644"  # of Arabic, written together with its noun
_SYLLABLES: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9]+")
_BONES: Final = str.maketrans("cqz", "kks", "aeiouwy")
ELSEWHERE: Final = {"y": "j", "w": "v", "c": "k", "q": "k", "z": "s"}
_SPOKEN: Final = frozenset("AEIOU")
_DOUBLED: Final = re.compile(r"(.)\1+")
# Marks that are written over or under a letter and are left out as often as not.
_MARKS: Final = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]+")
# Scripts that leave vowels out, so that only consonants can be compared.
_ABJADS: Final = re.compile("[\u0590-\u07bf\u08a0-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_HANGUL: Final = re.compile("[\u1100-\u11ff\uac00-\ud7a3]")
# What says little about whom a name is of.
LIGHT: Final = frozenset({
    "al", "el", "ul", "bin", "ben", "bint", "ibn", "abu", "de", "la", "le", "du", "di", "da", "do", "dos", "del",
    "della", "van", "von", "der", "den", "zu", "the", "of", "and", "for", "und", "et", "y", "i", "ltd", "llc",
    "inc", "co", "corp", "plc", "gmbh", "ag", "sa", "srl", "bv", "nv", "oy", "ab", "as", "kg", "company",
    "corporation", "limited", "liability", "joint", "stock", "group", "holding", "jsc", "pjsc", "ojsc", "cjsc",
    "ooo", "oao", "zao", "pao", "ao", "fze", "fzco", "sarl", "spa", "llp", "lp", "pte", "pty", "mr", "mrs", "ms",
    "dr"
})  # fmt: skip


class Unscreenable(Refusal):
    """Raised for a name that cannot be compared; the sentence says why."""

    code = "name_unscreenable"

    def __init__(self, detail: str) -> None:
        super().__init__(self.code, detail)


class NameForm(Struct, frozen=True, gc=False):
    """A name as it is compared: its parts in order, and whether it was written without vowels."""

    parts: tuple[str, ...]
    abjad: bool = False

    @property
    def key(self) -> str:
        """Return the one text that equal names share."""
        return " ".join(self.parts)


def form_of(name: str) -> NameForm:
    """Return the form of a name; raise Unscreenable where it has none, or where the libraries are
    not installed."""
    if len(name) > LEGAL_CHARACTERS_MAX:
        raise Unscreenable(f"longer than {LEGAL_CHARACTERS_MAX} characters")
    try:
        from anyascii import anyascii
        from rigour._core import maybe_ascii, replace_org_types_compare, tokenize_name
    except ImportError as error:
        raise Unscreenable(f"{error.name} is not installed; see docs/screening.md") from error
    folded = unicodedata.normalize("NFKD", name.casefold())
    folded = unicodedata.normalize("NFC", _MARKS.sub("", folded)).casefold()
    parts: list[str] = []
    for token in tokenize_name(folded, 1):
        latin = token if token.isascii() else ""
        if not latin and not _HANGUL.search(token):
            latin = maybe_ascii(token)
        if not latin.isascii() or not latin:
            bare = token.removeprefix(_ARTICLE) if len(token) > len(_ARTICLE) + 1 else token
            parts += [plain for cut in _SYLLABLES.findall(anyascii(bare)) if (plain := _plain(cut))]
            continue
        plain = _plain(latin)
        if plain:
            usual = replace_org_types_compare(token, _CASEFOLD, 0, False)
            parts.append(plain if usual == token else _plain(usual) or plain)
    if not parts:
        raise Unscreenable("without a letter or a digit")
    if len(parts) > PARTS_MAX:
        raise Unscreenable(f"of more than {PARTS_MAX} parts")
    return NameForm(tuple(sorted(parts)), bool(_ABJADS.search(folded)))


@lru_cache(maxsize=200_000)
def sounds(part: str) -> tuple[str, str]:
    """Return how a part sounds: its Metaphone code and its consonants, both as it might be spelt elsewhere.

    Y and W at the beginning are J and V, K stands for C and Q, S for Z; a vowel at the beginning is any vowel."""
    from rigour._core import metaphone

    spelt = ELSEWHERE.get(part[0], part[0]) + part[1:]
    heard = metaphone(spelt)
    if heard[:1] in _SPOKEN:
        heard = "A" + heard[1:]
    return heard, _DOUBLED.sub(r"\1", spelt.translate(_BONES))


def digest_of_names(names: Iterable[str]) -> str:
    """Return the digest of what a set of names says: other spellings of case, accents and order have the same."""
    keys = sorted({form_of(name).key for name in names})
    return hashlib.sha256("\n".join([NORMALISATION, *keys]).encode()).hexdigest()


def _plain(text: str) -> str:
    return _NOT_PLAIN.sub("", text.casefold())
