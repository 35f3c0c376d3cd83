"""How well screening finds, how often it finds the wrong one, and what it costs: `python -m zentra.bench.screening`.

Everything is made here: the synthetic list, common names of eight regions put together by a digest, and spellings of
listed names as others would write them. So the figures are the same on every machine, but for the times."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from zentra.runtime.compliance.lists import HITS_MAX, ListEntry, ListInfo, NameList, digest_of_list
from zentra.runtime.compliance.names import form_of
from zentra.runtime.compliance.synthetic import synthetic_entries

__all__ = ["COMMON", "SPELLINGS", "Figures", "common_names", "main", "measure"]

THRESHOLDS: Final = (750, 800, 850, 900, 950)
# Given and family names that are common in eight regions.
COMMON: Final = {
    "English": (
        "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan "
        "Joseph Jessica Thomas Sarah Charles Karen Daniel Nancy Matthew Lisa Anthony Betty Mark Margaret Paul "
        "Sandra",
        "Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Taylor Thomas Moore Jackson Martin Lee "
        "Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams",
    ),
    "Spanish": (
        "Maria Jose Carmen Antonio Ana Manuel Isabel Francisco Laura Juan Lucia Javier Elena Carlos Marta Miguel "
        "Paula Luis Sara Pedro Rosa Alejandro Julia Fernando Mario Pilar Diego Teresa Jorge Cristina",
        "Garcia Rodriguez Gonzalez Fernandez Lopez Martinez Sanchez Perez Gomez Martin Jimenez Ruiz Hernandez "
        "Diaz Moreno Alvarez Romero Alonso Gutierrez Navarro Torres Dominguez Vazquez Ramos Gil Ramirez Serrano "
        "Blanco Molina Suarez",
    ),
    "Arabic": (
        "Mohammed Ahmed Ali Fatima Omar Khalid Aisha Hassan Hussein Mariam Ibrahim Youssef Layla Abdullah Mahmoud "
        "Zainab Mustafa Salem Noor Hamza Tariq Samir Rania Karim Nadia Bilal Huda Faisal Amina Rashid",
        "Al-Sayed Hassan Ibrahim Al-Ahmad Khalil Mansour Saleh Haddad Nasser Abdullah Al-Hashimi Khoury Najjar "
        "Aziz Al-Masri Hamdan Qasim Saad Darwish Barakat Al-Amin Osman Farah Jaber Younis Bakr Suleiman Taha Zaki "
        "Rahman",
    ),
    "Chinese": (
        "Wei Fang Na Min Jing Li Qiang Lei Jun Yang Yong Yan Jie Juan Tao Ming Chao Xia Ping Gang Hui Bo Hong Xin "
        "Yu Lan Peng Xiaoming Jiahao Yuxuan",
        "Wang Li Zhang Liu Chen Yang Huang Zhao Wu Zhou Xu Sun Ma Zhu Hu Guo He Lin Gao Luo Zheng Liang Xie Song "
        "Tang Deng Han Feng Cao Peng",
    ),
    "Russian": (
        "Aleksandr Elena Sergei Olga Dmitri Tatyana Andrei Natalya Aleksei Irina Maksim Svetlana Evgeny Anna "
        "Vladimir Marina Ivan Lyudmila Mikhail Yulia Nikolai Ekaterina Igor Galina Oleg Anastasia Pavel Vera "
        "Denis Nina",
        "Ivanov Smirnova Kuznetsov Popova Sokolov Lebedeva Kozlov Novikova Morozov Petrova Volkov Solovyova "
        "Vasiliev Zaitseva Pavlov Semyonova Golubev Vinogradova Bogdanov Vorobyova Fyodorov Mikhailova Belyaev "
        "Tarasova Belov Komarova Orlov Kiselyova Makarov Andreeva",
    ),
    "Nigerian": (
        "Chinedu Ngozi Emeka Aisha Tunde Funmi Ibrahim Blessing Olumide Chioma Musa Zainab Segun Amaka Yusuf "
        "Folake Obinna Halima Kunle Ifeoma Sani Bukola Uche Hauwa Femi Nneka Abubakar Yetunde Ikenna Rukayat",
        "Okafor Adeyemi Bello Eze Balogun Ibrahim Okonkwo Abubakar Adebayo Nwosu Musa Ogunleye Obi Lawal Chukwu "
        "Usman Olawale Nnamdi Yusuf Akinola Igwe Suleiman Oyelaran Onyekachi Garba Adekunle Umeh Danjuma Afolabi "
        "Okoro",
    ),
    "Indian": (
        "Aarav Priya Rahul Anita Amit Sunita Vijay Kavita Rajesh Pooja Sanjay Neha Arjun Lakshmi Suresh Meena "
        "Ravi Deepa Anil Geeta Vikram Asha Manoj Rekha Kiran Divya Ashok Shanti Mohan Radha",
        "Sharma Patel Singh Kumar Gupta Reddy Nair Iyer Joshi Mehta Rao Das Verma Khan Agarwal Mishra Chopra "
        "Desai Pillai Banerjee Kapoor Bose Menon Chauhan Yadav Shah Malhotra Sinha Thakur Kulkarni",
    ),
    "German": (
        "Peter Ursula Michael Monika Thomas Petra Andreas Sabine Wolfgang Renate Klaus Karin Juergen Brigitte "
        "Stefan Ingrid Christian Andrea Uwe Gisela Werner Claudia Horst Susanne Frank Erika Dieter Helga Manfred "
        "Birgit",
        "Mueller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Koch Bauer Richter Klein "
        "Wolf Schroeder Neumann Schwarz Zimmermann Braun Krueger Hofmann Hartmann Lange Werner Krause Lehmann "
        "Schmid Maier Jung",
    ),
}  # fmt: skip


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


class Figures(Struct, frozen=True):
    """What was found: by what was asked, how many were asked and how many of them hit at each threshold."""

    asked: int
    hits: dict[int, int]


def common_names(count: int, salt: str = "common") -> list[str]:
    """Return `count` common names, as many of each region, every third with a second given name."""
    regions = [(given.split(), family.split()) for given, family in COMMON.values()]
    names = []
    for number in range(count):
        draw = iter(hashlib.shake_256(f"{salt}/{number}".encode()).digest(16))
        given, family = regions[number % len(regions)]
        parts = [given[next(draw) % len(given)], family[next(draw) % len(family)]]
        if next(draw) % 3 == 0:
            parts.insert(1, given[next(draw) % len(given)])
        names.append(" ".join(parts))
    return names


def _latin(name: str) -> str | None:
    """Return how a passport spells a Cyrillic name (ICAO 9303), or None for a name in another script."""
    if "CYRILLIC" not in unicodedata.name(name.replace(" ", "")[0]):
        return None
    return "".join(_PASSPORT.get(letter, letter) for letter in name.lower()).title()


_PASSPORT: Final = dict(zip("абвгдезийклмнопрстуфхцчшщъыьэюяё", [
    "a", "b", "v", "g", "d", "e", "z", "i", "i", "k", "l", "m", "n", "o", "p", "r", "s", "t", "u", "f", "kh", "ts",
    "ch", "sh", "shch", "ie", "y", "", "e", "iu", "ia", "e",
], strict=True)) | {"ж": "zh"}  # fmt: skip


def _typo(name: str) -> str | None:
    """Return the name with two letters of its longest part exchanged."""
    parts = name.split()
    longest = max(parts, key=len)
    if len(longest) < 6:
        return None
    middle = len(longest) // 2
    wrong = longest[:middle] + longest[middle + 1] + longest[middle] + longest[middle + 2 :]
    return name.replace(longest, wrong)


def _shorter(name: str) -> str | None:
    parts = name.replace(",", "").split()
    return " ".join([parts[0], parts[-1]]) if len(parts) == 3 else None


def _unaccented(name: str) -> str | None:
    plain = "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))
    return plain if plain != name else None


SPELLINGS: Final[dict[str, Callable[[str], str | None]]] = {
    "as listed": lambda name: name,
    "capitals": str.upper,
    "other order": lambda name: " ".join(reversed(name.replace(",", " ").split())),
    "no accents": _unaccented,
    "Cyrillic as in a passport": _latin,
    "without the middle name": _shorter,
    "two letters exchanged": _typo,
}


def _hits(found: NameList, asked: Sequence[tuple[str, str | None]]) -> Figures:
    """Ask every name; with an entry beside it, a hit is a hit of that entry."""
    scores = []
    for name, entry in asked:
        answer = found.ask(name)
        own = [hit.score for hit in answer.hits if hit.entry == entry]
        behind = [answer.hits[-1].score] if len(answer.hits) == HITS_MAX else []  # as alike as those that are shown
        scores.append(answer.score if entry is None else max([*own, *behind], default=0))
    return Figures(len(scores), {one: sum(score >= one for score in scores) for one in THRESHOLDS})


def _listed(entries: Sequence[ListEntry]) -> NameList:
    info = ListInfo("bench", 1, digest_of_list(entries), datetime(2026, 4, 1, tzinfo=UTC), len(entries))
    return NameList(info, entries)


def measure(entries: int, names: int) -> Iterator[tuple[str, Figures]]:
    """Yield what is found of listed names in other spellings, and how many common names hit."""
    synthetic = synthetic_entries(entries)
    found = _listed(synthetic)
    for told, spell in SPELLINGS.items():
        asked = [
            (spelt, entry.id) for entry in synthetic[:: max(1, entries // 1000)] for name in entry.names
            if (spelt := spell(name)) is not None
        ]  # fmt: skip
        yield f"listed, {told}", _hits(found, asked)
    common = [(name, None) for name in common_names(names)]
    yield f"common names, {entries:,} synthetic entries", _hits(found, common)
    crowd = [ListEntry(f"c{n}", "person", (name,)) for n, name in enumerate(common_names(entries // 10, "crowd"))]
    listed = {form_of(entry.names[0]).parts for entry in crowd}
    others = [(name, None) for name, _ in common if form_of(name).parts not in listed]
    yield f"common names, {len(crowd):,} entries with common names", _hits(_listed(crowd), others)


def _costs(entries: int, names: int) -> None:
    """Print what an index costs, and a name that is asked for the first time."""
    form_of("warm up")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    found = _listed(synthetic_entries(entries))
    built = time.process_time() - began
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    say(f"{entries:,} entries: {built:.2f} s of CPU to build, {memory:.0f} MiB")
    listed = [name for entry in synthetic_entries(entries)[:: max(1, entries // names)] for name in entry.names]
    for told, asked in (("common names", common_names(names)), ("listed names", listed)):
        spent = []
        for name in asked:
            began = time.process_time()
            found.ask(name)
            spent.append((time.process_time() - began) * 1e6)
        spent.sort()
        middle, high, most = spent[len(spent) // 2], spent[len(spent) * 99 // 100], spent[-1]
        say(f"  {told}: median {middle:.0f} us, p99 {high:.0f} us, most {most:.0f} us of CPU")


def main(entries: int = 20_000, names: int = 10_000) -> None:
    """Print all figures."""
    _costs(entries, min(names, 2_000))
    say("| asked | names | " + " | ".join(f"hit at {one}" for one in THRESHOLDS) + " |")
    say("|---|---:|" + "---:|" * len(THRESHOLDS))
    for told, figures in measure(entries, names):
        say(f"| {told} | {figures.asked:,} | " + " | ".join(f"{figures.hits[one]:,}" for one in THRESHOLDS) + " |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
