"""A list of people and organisations that do not exist, in Latin, Cyrillic, Arabic and Chinese script.

It ships so that screening can be tried, tested and measured without anybody's data. Names are put together from parts
by a digest of their number, so the same call gives the same list on every machine. A resemblance to somebody real is
chance, and nobody is to be refused for it: it is no list for a live installation."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from zentra.runtime.compliance.lists import ListEntry

__all__ = ["SYNTHETIC_ENTRIES", "synthetic_entries"]

SYNTHETIC_ENTRIES: Final = 2_000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_GIVEN: Final = _words(
    "Aldric Benedikta Corvin Dagmar Elowen Fabrizio Grimwald Halvard Isolde Jorunn Kasimir Leontyna Marquard "
    "Nerissa Ottokar Perpetua Quirin Rosalind Sigmund Theodora Ulrika Valdemar Wendelin Xaverius Ysolda Zbigniew "
    "Ambrogio Brunhild Casimira Dietrich Eufemia Florentin Gundula Hyacinth Ignatius Jasper Konstanze Lucjan "
    "Mechthild Norbert"
)
_LATIN_STEMS: Final = _words(
    "Vor Kel Bran Thal Mor Zel Dra Hol Ster Quil Fen Gor Lind Mar Nor Oster Pel Rav Sal Tur Ulm Vey Wex Yar Zor "
    "Bel Cor Dun Ebb Falk"
)
_LATIN_ENDS: Final = _words(
    "ansky ovitz berger hauser mond dale wick stein gart quist elli ardo essen ström ásek iński"
)
_CYRILLIC_GIVEN: Final = _words(
    "Горислав Велимира Доброгост Ждана Златомир Искрен Лучезар Милонега Остромир Пересвет Радомир Светозар "
    "Твердислав Умила Храбр Цветана Чеслав Ярополк Болеслава Всеволод"
)
_CYRILLIC_STEMS: Final = _words(
    "Бел Вер Грозд Дуб Жмел Зар Кленов Лист Мшан Остр Перун Рог Стрел Туман Холм Чер Шип Щеп Яр"
)
_CYRILLIC_ENDS: Final = _words("ницкий овский еватый инский ухин ышев ягин ослав енко ищев")
_ARABIC_GIVEN: Final = _words("زهير قتادة لبيد نضال هيثم وائل سراج تيسير غسان فراس بلقيس شهرزاد")
_ARABIC_FAMILY: Final = _words(
    "الزعفراني القرنفلي الياقوتي الصنوبري النرجسي المرجاني الفيروزي البنفسجي العنبري الكهرماني"
)
_ARABIC_SPELT: Final = {
    "زهير": "Zuhair", "قتادة": "Qutada", "لبيد": "Labid", "نضال": "Nidal", "هيثم": "Haytham", "وائل": "Wael",
    "سراج": "Siraj", "تيسير": "Taysir", "غسان": "Ghassan", "فراس": "Firas", "بلقيس": "Balqis", "شهرزاد": "Shahrazad",
    "الزعفراني": "al-Zafarani", "القرنفلي": "al-Qurunfuli", "الياقوتي": "al-Yaquti", "الصنوبري": "al-Sanawbari",
    "النرجسي": "al-Narjisi", "المرجاني": "al-Marjani", "الفيروزي": "al-Fayruzi", "البنفسجي": "al-Banafsaji",
    "العنبري": "al-Anbari", "الكهرماني": "al-Kahramani",
}  # fmt: skip
_CHINESE_FAMILY: Final = {
    "欧阳": "Ouyang", "司徒": "Situ", "诸葛": "Zhuge", "端木": "Duanmu", "慕容": "Murong", "令狐": "Linghu",
    "轩辕": "Xuanyuan", "东方": "Dongfang", "南宫": "Nangong", "西门": "Ximen", "夏侯": "Xiahou", "上官": "Shangguan",
}  # fmt: skip
_CHINESE_GIVEN: Final = {
    "云": "yun", "鹤": "he", "松": "song", "岩": "yan", "波": "bo", "霜": "shuang", "竹": "zhu", "泉": "quan",
    "岚": "lan", "钟": "zhong", "墨": "mo", "棋": "qi", "琴": "qin", "梅": "mei", "冰": "bing", "炎": "yan",
    "舟": "zhou", "星": "xing", "茶": "cha", "铁": "tie", "鼎": "ding", "弓": "gong", "瓦": "wa", "笔": "bi",
}  # fmt: skip
_TRADES: Final = _words("Amber Copper Marine Granite Polar Meridian Saffron Obsidian Tidal Basalt Zephyr Cobalt")
_WORKS: Final = _words("Logistics Trading Shipping Metals Fisheries Aviation Textiles Refining Bearings Instruments")
_FORMS: Final = ("Ltd", "LLC", "GmbH", "S.A.", "JSC", "Pte")


def synthetic_entries(count: int = SYNTHETIC_ENTRIES) -> list[ListEntry]:
    """Return the first `count` entries of the list; a longer list begins with the shorter one."""
    return [_entry(number) for number in range(count)]


class _Draw:
    """Choices that follow from a number alone."""

    def __init__(self, number: int) -> None:
        self._bytes = iter(hashlib.shake_256(b"synthetic %d" % number).digest(64))

    def below(self, limit: int) -> int:
        return (next(self._bytes) * 256 + next(self._bytes)) % limit

    def of(self, options: Sequence[str]) -> str:
        return options[self.below(len(options))]


def _entry(number: int) -> ListEntry:
    draw = _Draw(number)
    kind = draw.below(20)
    birth = f"{1940 + draw.below(60)}-{1 + draw.below(12):02d}-{1 + draw.below(28):02d}"
    if kind < 4:
        names = tuple(_company(draw))
        return ListEntry(f"syn-{number:06d}", "organisation", names, (draw.of(_COUNTRIES),), (), ("SYNTHETIC",))
    maker = _latin if kind < 10 else _cyrillic if kind < 14 else _arabic if kind < 17 else _chinese
    names = tuple(maker(draw))
    return ListEntry(f"syn-{number:06d}", "person", names, (draw.of(_COUNTRIES),), (birth,), ("SYNTHETIC",))


_COUNTRIES: Final = ("XA", "XB", "XC", "XD")  # of the range that ISO 3166 leaves to its users: nowhere


def _latin(draw: _Draw) -> Iterator[str]:
    family = draw.of(_LATIN_STEMS) + draw.of(_LATIN_STEMS).lower() + draw.of(_LATIN_ENDS)
    given, second = draw.of(_GIVEN), draw.of(_GIVEN)
    yield f"{family.upper()}, {given} {second}"
    yield f"{given} {family}"


def _cyrillic(draw: _Draw) -> Iterator[str]:
    family = draw.of(_CYRILLIC_STEMS) + draw.of(_CYRILLIC_STEMS).lower() + draw.of(_CYRILLIC_ENDS)
    yield f"{draw.of(_CYRILLIC_GIVEN)} {draw.of(_CYRILLIC_GIVEN)}ович {family}"


def _arabic(draw: _Draw) -> Iterator[str]:
    parts = [draw.of(_ARABIC_GIVEN), draw.of(_ARABIC_GIVEN), draw.of(_ARABIC_FAMILY)]
    yield " ".join(parts)
    if draw.below(2):
        yield " ".join(_ARABIC_SPELT[part] for part in parts)


def _chinese(draw: _Draw) -> Iterator[str]:
    family, first, second = (draw.of(tuple(table)) for table in (_CHINESE_FAMILY, _CHINESE_GIVEN, _CHINESE_GIVEN))
    yield family + first + second
    if draw.below(2):
        yield f"{_CHINESE_FAMILY[family]} {(_CHINESE_GIVEN[first] + _CHINESE_GIVEN[second]).capitalize()}"


def _company(draw: _Draw) -> Iterator[str]:
    stem = draw.of(_LATIN_STEMS) + draw.of(_LATIN_STEMS).lower() + draw.of(_LATIN_ENDS)
    core = f"{stem.capitalize()} {draw.of(_TRADES)} {draw.of(_WORKS)}"
    yield f"{core} {draw.of(_FORMS)}"
    yield core
