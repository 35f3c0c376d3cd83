"""The files that lists of names come in: OFAC's SDN list as CSV and XML, OpenSanctions' as JSON lines and CSV.

    ofac-csv        sdn.csv, with alt.csv beside it for the other names; twelve and five columns, "-0-" for nothing
    ofac-xml        sdn.xml (the standard format, `sdnEntry`)
    ftm             entities.ftm.json: one FollowTheMoney entity a line
    targets         targets.simple.csv

Invariants. A file is read whole or refused with the place of what is wrong: half a list would let pass what the other
half names. Entities of kinds that have no name to look for (addresses, passports, ownerships) are passed over. XML is
read without a document type, so it can name no entity and no other file."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, XMLParser

import msgspec

from zentra.runtime.compliance.lists import ListEntry
from zentra.runtime.errors import Refusal

__all__ = ["FORMATS", "read_list"]

_NOTHING: Final = "-0-"
_BORN: Final = re.compile(r"DOB (?:circa )?([^;.]*\d{4})")
_ALSO: Final = re.compile(r"a\.k\.a\. '([^']+)'")
_KINDS: Final = {"individual": "person", "person": "person"}
_ORGANISATIONS: Final = frozenset({"Organization", "Company", "PublicBody", "LegalEntity"})
_FTM_OTHERS: Final = frozenset({"Vessel", "Airplane", "Vehicle", "CryptoWallet", "Security"})


def read_list(form: str, files: Mapping[str, Iterable[str]]) -> list[ListEntry]:
    """Return the entries of a list. `files` holds the lines of its files: "main", and "alt" for ofac-csv.

    Raises Refusal `list_format_unknown`, `list_malformed` (with the line), `list_empty`."""
    reader = FORMATS.get(form)
    if reader is None:
        raise Refusal("list_format_unknown", f"{form!r}: one of {', '.join(FORMATS)}")
    entries = list(reader(files))
    if not entries:
        raise Refusal("list_empty", "the file names nobody; a list that is empty by mistake would clear everybody")
    ids = {entry.id for entry in entries}
    if len(ids) != len(entries):
        raise _malformed(0, "an entry comes twice")
    return entries


def _malformed(line: int, what: str) -> Refusal:
    return Refusal("list_malformed", f"line {line}: {what}" if line else what)


def _ofac_csv(files: Mapping[str, Iterable[str]]) -> Iterator[ListEntry]:
    others: dict[str, list[str]] = {}
    for line, row in enumerate(csv.reader(files.get("alt", ())), 1):
        if _is_end(row):
            continue
        if len(row) != 5:
            raise _malformed(line, f"alt.csv has 5 columns, this has {len(row)}")
        others.setdefault(row[0].strip(), []).append(row[3].strip())
    for line, row in enumerate(csv.reader(files["main"]), 1):
        if _is_end(row):
            continue
        if len(row) != 12:
            raise _malformed(line, f"sdn.csv has 12 columns, this has {len(row)}")
        number, name, kind, program, remarks = (row[place].strip() for place in (0, 1, 2, 3, 11))
        if not number.isdigit() or not name or name == _NOTHING:
            raise _malformed(line, "an entry has a number and a name")
        names = [name, *others.get(number, ()), *_ALSO.findall(remarks)]
        what = "organisation" if kind == _NOTHING else _KINDS.get(kind, "other")
        programs = () if program == _NOTHING else tuple(re.split(r"\]\s*\[|;\s*", program.strip("[]")))
        yield ListEntry(f"ofac-{number}", what, _distinct(names), (), tuple(_BORN.findall(remarks)), programs)


def _is_end(row: list[str]) -> bool:
    """Whether a line holds nothing: OFAC's files end with a control character."""
    return not row or (len(row) == 1 and not row[0].strip("\x1a \ufeff"))


def _ofac_xml(files: Mapping[str, Iterable[str]]) -> Iterator[ListEntry]:
    parser = XMLParser()  # noqa: S314 - refuses what it warns of
    line = 0
    try:
        for line, text in enumerate(files["main"], 1):
            if "<!DOCTYPE" in text or "<!ENTITY" in text:
                raise _malformed(line, "a list has no document type")
            parser.feed(text)
        root: Element = parser.close()
    except ParseError as error:
        raise _malformed(line, f"not XML: {error}") from error
    for element in root.iter():
        if _local(element) == "sdnEntry":
            yield _sdn_entry(element)


def _sdn_entry(element: Element) -> ListEntry:
    number, kind = _text(element, "uid"), _text(element, "sdnType")
    names = [_full(element), *(_full(also) for also in _all(element, "aka"))]
    if not number or not names[0]:
        raise _malformed(0, "an sdnEntry has a uid and a name")
    what = {"Individual": "person", "Entity": "organisation"}.get(kind, "other")
    countries = [_text(place, "country") for place in _all(element, "address")]
    born = [_text(date, "dateOfBirth") for date in _all(element, "dateOfBirthItem")]
    programs = [(program.text or "").strip() for program in _all(element, "program")]
    return ListEntry(
        f"ofac-{number}", what, _distinct(names), _distinct(countries), _distinct(born), _distinct(programs)
    )


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: Element, name: str) -> list[Element]:
    return [child for child in element.iter() if _local(child) == name]


def _text(element: Element, name: str) -> str:
    return next(((child.text or "").strip() for child in element if _local(child) == name), "")


def _full(element: Element) -> str:
    return f"{_text(element, 'firstName')} {_text(element, 'lastName')}".strip()


def _ftm(files: Mapping[str, Iterable[str]]) -> Iterator[ListEntry]:
    for line, text in enumerate(files["main"], 1):
        if not text.strip():
            continue
        try:
            entity = msgspec.json.decode(text)
            schema, properties = entity["schema"], entity["properties"]
            kind = "person" if schema == "Person" else "organisation" if schema in _ORGANISATIONS else "other"
            if kind == "other" and schema not in _FTM_OTHERS:
                continue
            names = _distinct([
                *properties.get("name", ()), *properties.get("alias", ()), *properties.get("previousName", ()),
                entity.get("caption") or "",
            ])  # fmt: skip
            if not names:
                continue
            yield ListEntry(
                str(entity["id"]), kind, names, _codes(properties), tuple(properties.get("birthDate", ())),
                _distinct([*properties.get("programId", ()), *entity.get("datasets", ())]),
            )  # fmt: skip
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
            raise _malformed(line, f"not an entity: {type(error).__name__} {error}") from error


def _codes(properties: Mapping[str, Any]) -> tuple[str, ...]:
    found = [c for name in ("country", "nationality", "citizenship", "jurisdiction") for c in properties.get(name, ())]
    return _distinct([code.upper() for code in found])


def _targets(files: Mapping[str, Iterable[str]]) -> Iterator[ListEntry]:
    rows = csv.DictReader(files["main"])
    if not {"id", "schema", "name", "aliases"} <= set(rows.fieldnames or ()):
        raise _malformed(1, "the columns id, schema, name and aliases are needed")
    for line, row in enumerate(rows, 2):
        if not row["id"] or not row["name"] or None in row or None in row.values():
            raise _malformed(line, "an entry has an id, a name and all columns")
        schema = row["schema"]
        kind = "person" if schema == "Person" else "organisation" if schema in _ORGANISATIONS else "other"
        names = _distinct([row["name"], *_split(row["aliases"])])
        countries = _distinct([code.upper() for code in _split(row.get("countries", ""))])
        programs = _distinct([*_split(row.get("program_ids", "")), *_split(row.get("dataset", ""))])
        yield ListEntry(row["id"], kind, names, countries, _distinct(_split(row.get("birth_date", ""))), programs)


def _split(text: str) -> list[str]:
    return [one.strip().strip('"') for one in text.split(";")]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text and text != _NOTHING))


FORMATS: Final[Mapping[str, Callable[[Mapping[str, Iterable[str]]], Iterator[ListEntry]]]] = {
    "ofac-csv": _ofac_csv,
    "ofac-xml": _ofac_xml,
    "ftm": _ftm,
    "targets": _targets,
}
