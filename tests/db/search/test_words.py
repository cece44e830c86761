"""Words are found that Postgres's full-text parser alone would treat as part of a longer token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.search import SearchMode
from ragsvc.retrieval.search import search

if TYPE_CHECKING:
    from tests.support.documents.library import Library

OTHER = "Nothing of that kind stands here, 数 and กา aside."
FOUND = [
    ("Sockets serve client/server and input/output.", "server"),
    ("Sockets serve client/server and input/output.", "input"),
    ("It is read from /etc/nginx/sites-enabled/default.", "nginx"),
    ("It is read from /etc/nginx/sites-enabled/default.", "sites-enabled/default"),
    ("Write it into config.yaml, as module.function_name says.", "config"),
    ("Write it into config.yaml, as module.function_name says.", "config.yaml"),
    ("Write it into config.yaml, as module.function_name says.", "function_name"),
    ("These were the details.End of sentence.Nextword follows.", "Nextword"),
    ("Ask <Autorin Meier> in Berlin.", "Meier"),
    ("A method returns List<Invoice> here.", "Invoice"),
    ('<person name="Witness" city="Heidelberg"/>', "Heidelberg"),
    ("Write to support@kettles.example.com.", "kettles"),
    ("See https://docs.example.com/kettles/descaling?step=2.", "descaling"),
    ("After covid-19 it closed.", "19"),
    ("It was on 2024-01-15.", "15"),
    ("Python3.11 is enough.", "3.11"),
    ("Python 3.11 is enough.", "python3.11"),
    ("Release v1.2.3 is out.", "1.2.3"),
    ("Take node.js for it.", "node.js"),
    ("北京是中华人民共和国的首都、故宫博物院在那里。", "首都"),
    ("北京是中华人民共和国的首都、故宫博物院在那里。", "故宫博物院"),
    ("北京是中华人民共和国的首都、故宫博物院在那里。", "北"),
    ("東京で証人が話した。カメラを見た。", "証人"),
    ("東京で証人が話した。カメラを見た。", "カメラ"),
    ("서울은 한국의 수도이다.", "수도"),
    ("กรุงเทพมหานครเป็นเมืองหลวง", "เมืองหลวง"),
    ("PostgreSQL数据库很好", "数据库"),
    ("PostgreSQL数据库很好", "postgresql"),
]


@pytest.mark.parametrize(("text", "query"), FOUND)
async def test_a_joined_word_is_found(library: Library, text: str, query: str) -> None:
    await library.add(OTHER, text)
    hits = (await search(library.resources, library.workspace_id, query=query, mode=SearchMode.LEXICAL)).hits
    assert text in [hit.text for hit in hits[:1]]


async def test_joined_words_in_a_heading_are_found_and_the_heading_is_unchanged(library: Library) -> None:
    await library.add("Some text.", heading_path=("config.yaml", "client/server"))
    for query in ("yaml", "client"):
        (hit,) = (await search(library.resources, library.workspace_id, query=query, mode=SearchMode.LEXICAL)).hits
        assert hit.heading_path == ("config.yaml", "client/server")


async def test_a_column_name_finds_the_rows_below(library: Library) -> None:
    await library.add("Falcon saw\t2027-03-01", table_header="Product\tNext audit")
    await library.add("Falcon saw\t12 euros", table_header="Product\tPrice")
    (hit,) = (await search(library.resources, library.workspace_id, query="next audit", mode=SearchMode.LEXICAL)).hits
    assert hit.text == "Falcon saw\t2027-03-01"


async def test_a_decimal_number_is_one_word(library: Library) -> None:
    await library.add("Pi is 3.14 here.", "Chapter 3 has 14 pages.")
    (hit,) = (await search(library.resources, library.workspace_id, query="3.14", mode=SearchMode.LEXICAL)).hits
    assert hit.text == "Pi is 3.14 here."
