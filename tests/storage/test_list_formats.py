"""The files that lists come in: read whole, or refused with the place of what is wrong."""

from __future__ import annotations

import pytest

from zentra.runtime.compliance.lists import ListEntry
from zentra.runtime.errors import Refusal
from zentra.storage.list_formats import FORMATS, read_list

# ruff: noqa: E501
SDN = """\
101,"VORANSKY, Jorunn","individual","XA-ONE] [XB-TWO",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,"DOB 03 May 1961; alt. DOB circa 1962; a.k.a. 'THE HERON'."
102,"AMBER LOGISTICS LTD",-0- ,"XA-ONE",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0-
103,"SEA HERON","vessel","XA-ONE",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0-
\x1a
"""
ALT = """\
101,7,"aka","VORANSKI, Yorun",-0-
101,8,"fka","Йорунн Воранский",-0-
\x1a
"""
SDN_ENTRIES = [
    ListEntry(
        "ofac-101", "person", ("VORANSKY, Jorunn", "VORANSKI, Yorun", "Йорунн Воранский", "THE HERON"), (),
        ("03 May 1961", "1962"), ("XA-ONE", "XB-TWO"),
    ),
    ListEntry("ofac-102", "organisation", ("AMBER LOGISTICS LTD",), (), (), ("XA-ONE",)),
    ListEntry("ofac-103", "other", ("SEA HERON",), (), (), ("XA-ONE",)),
]  # fmt: skip
XML = """\
<?xml version="1.0" standalone="yes"?>
<sdnList xmlns="https://sanctionslistservice.example/sdn">
  <publshInformation><Record_Count>2</Record_Count></publshInformation>
  <sdnEntry>
    <uid>101</uid><firstName>Jorunn</firstName><lastName>VORANSKY</lastName><sdnType>Individual</sdnType>
    <programList><program>XA-ONE</program></programList>
    <akaList><aka><uid>7</uid><type>a.k.a.</type><lastName>VORANSKI</lastName><firstName>Yorun</firstName></aka></akaList>
    <addressList><address><uid>9</uid><country>Nowhere</country></address></addressList>
    <dateOfBirthList><dateOfBirthItem><uid>3</uid><dateOfBirth>03 May 1961</dateOfBirth></dateOfBirthItem></dateOfBirthList>
  </sdnEntry>
  <sdnEntry><uid>102</uid><lastName>AMBER LOGISTICS LTD</lastName><sdnType>Entity</sdnType></sdnEntry>
</sdnList>
"""
XML_ENTRIES = [
    ListEntry(
        "ofac-101", "person", ("Jorunn VORANSKY", "Yorun VORANSKI"), ("Nowhere",), ("03 May 1961",), ("XA-ONE",)
    ),
    ListEntry("ofac-102", "organisation", ("AMBER LOGISTICS LTD",)),
]  # fmt: skip
FTM = """\
{"id": "NK-1", "caption": "Jorunn Voransky", "schema": "Person", "datasets": ["xx"], "properties": {"name": ["Jorunn Voransky"], "alias": ["Йорунн Воранский"], "birthDate": ["1961-05-03"], "nationality": ["xa"]}}
{"id": "NK-2", "schema": "Address", "properties": {"full": ["1 Nowhere"]}}

{"id": "NK-3", "caption": "Sea Heron", "schema": "Vessel", "properties": {"name": ["Sea Heron"]}}
{"id": "NK-4", "caption": "", "schema": "Company", "properties": {"previousName": ["Amber Logistics"]}}
"""
FTM_ENTRIES = [
    ListEntry("NK-1", "person", ("Jorunn Voransky", "Йорунн Воранский"), ("XA",), ("1961-05-03",), ("xx",)),
    ListEntry("NK-3", "other", ("Sea Heron",)),
    ListEntry("NK-4", "organisation", ("Amber Logistics",)),
]
TARGETS = '''\
"id","schema","name","aliases","birth_date","countries","addresses","identifiers","sanctions","phones","emails","program_ids","dataset","first_seen","last_seen","last_change"
"NK-1","Person","Jorunn Voransky","Йорунн Воранский;""Jorun, V.""","1961-05-03","xa;xb","","","","","","P-1","Some list","","",""
'''
TARGETS_ENTRIES = [
    ListEntry(
        "NK-1", "person", ("Jorunn Voransky", "Йорунн Воранский", "Jorun, V."), ("XA", "XB"), ("1961-05-03",),
        ("P-1", "Some list"),
    )
]  # fmt: skip

# fmt: off
READ = [
    ("ofac-csv", {"main": SDN, "alt": ALT}, SDN_ENTRIES),
    ("ofac-csv", {"main": SDN},             [ListEntry("ofac-101", "person", ("VORANSKY, Jorunn", "THE HERON"), (), ("03 May 1961", "1962"), ("XA-ONE", "XB-TWO")), *SDN_ENTRIES[1:]]),
    ("ofac-xml", {"main": XML},             XML_ENTRIES),
    ("ftm",      {"main": FTM},             FTM_ENTRIES),
    ("targets",  {"main": TARGETS},         TARGETS_ENTRIES),
]
REFUSED = [
    ("nothing",  SDN,                                      "list_format_unknown", "one of"),
    ("ofac-csv", "",                                       "list_empty",          "nobody"),
    ("ofac-csv", "\x1a\n",                                 "list_empty",          "nobody"),
    ("ofac-csv", '1,"A","individual"\n',                   "list_malformed",      "line 1: sdn.csv has 12 columns"),
    ("ofac-csv", SDN.replace("102,", "x,"),                "list_malformed",      "line 2"),
    ("ofac-csv", SDN.replace("102,", "101,"),              "list_malformed",      "twice"),
    ("ofac-xml", XML.replace("</sdnList>", ""),            "list_malformed",      "not XML"),
    ("ofac-xml", '<!DOCTYPE x [<!ENTITY a "b">]>\n' + XML, "list_malformed",      "line 1: a list has no document type"),
    ("ofac-xml", XML.replace("<uid>102</uid>", ""),        "list_malformed",      "uid"),
    ("ftm",      '{"id": 1}\n',                            "list_malformed",      "line 1"),
    ("ftm",      FTM + "{\n",                              "list_malformed",      "line 6"),
    ("ftm",      "[]\n",                                   "list_malformed",      "line 1"),
    ("targets",  "id,name\n1,x\n",                         "list_malformed",      "line 1"),
    ("targets",  TARGETS + '"NK-2","Person"\n',            "list_malformed",      "line 3"),
]
# fmt: on


@pytest.mark.parametrize(("form", "files", "entries"), READ)
def test_a_file_is_read_as_its_publisher_means_it(form: str, files: dict[str, str], entries: list[ListEntry]) -> None:
    assert read_list(form, {name: text.splitlines(keepends=True) for name, text in files.items()}) == entries


@pytest.mark.parametrize(("form", "text", "code", "told"), REFUSED)
def test_half_a_list_is_none(form: str, text: str, code: str, told: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_list(form, {"main": text.splitlines(keepends=True)})
    assert caught.value.reason == code
    assert told in str(caught.value)


def test_every_format_is_read_by_a_test() -> None:
    assert {form for form, _, _ in READ} == FORMATS.keys()
