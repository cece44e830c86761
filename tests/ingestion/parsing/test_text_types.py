"""JSON, XML, RTF and source code: exact text, split at the structure of the format."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.collections import Chunking
from ragsvc.ingestion.chunking.chunker import iterate_chunks_of
from ragsvc.media_types.formats import BY_SUFFIX, GRAMMARS
from tests.ingestion.invariants import check_chunks
from tests.ingestion.support import assert_linear_time, refusal_of

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Chunk, ParsedText
    from ragsvc.llm.token_counting import TokenCounter
    from tests.ingestion.conftest import Parse

CHUNKING = Chunking(max_tokens=60, overlap_tokens=0)
FUNCTION = "def function_{0}(value):\n    if value > {0}:\n        return 'more'\n\n    return 'less'\n"


def chunk(parsed: ParsedText, counter: TokenCounter) -> list[Chunk]:
    chunks = list(iterate_chunks_of(parsed, counter, chunking=CHUNKING, max_input_tokens=256, max_chunks=10_000))
    check_chunks(parsed, chunks, CHUNKING, counter)
    return chunks


def test_json_with_line_breaks_is_unchanged(parse: Parse) -> None:
    data = json.dumps({"a": [1, 2, {"b": "é"}]}, indent=4, ensure_ascii=False)
    assert parse(data.encode(), "a.json").text == data


def test_json_without_line_breaks_gets_some_and_is_otherwise_unchanged(parse: Parse) -> None:
    value = {"a, [b]": [{"n": number, "s": 'quote " and \\ {'} for number in range(100)], "empty": {}, "big": 10**30}
    text = parse(json.dumps(value).encode(), "a.json").text
    assert json.loads(text) == value
    assert max(map(len, text.splitlines())) < 100


@pytest.mark.parametrize("data", [b"[" * 9_000, b'{"a":' * 5_000, b'["' + b"x" * 50_000, b"{]," * 5_000])
def test_invalid_json_is_read_as_text(parse: Parse, counter: TokenCounter, data: bytes) -> None:
    parsed = parse(data, "a.json")
    assert "".join(parsed.text.split()) == data.decode()
    assert chunk(parsed, counter)


def test_an_unterminated_json_string_extends_to_the_end_in_linear_time(parse: Parse) -> None:
    def check(string: str) -> None:
        assert parse(f'{{"a":1,{string}'.encode(), "a.json").text == f'{{\n  "a": 1,\n  {string}'

    assert_linear_time(lambda size: '"' + '\\"' * size, check, size=50_000)


def test_json_lines_are_rows(parse: Parse, counter: TokenCounter) -> None:
    lines = [json.dumps({"id": number, "text": "some words of it"}) for number in range(50)]
    parsed = parse("\n".join(lines).encode(), "a.jsonl")
    assert [line for piece in chunk(parsed, counter) for line in piece.text.splitlines()] == lines


def test_xml_is_read_in_its_declared_charset_without_expanding_entities(parse: Parse) -> None:
    entity = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    markup = f'<?xml version="1.0" encoding="windows-1251"?>{entity}<x>Да &e;</x>'
    assert parse(markup.encode("cp1251"), "a.xml").text == markup


def test_deeply_nested_entities_do_not_exhaust_memory(parse: Parse) -> None:
    entities = "".join(f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(20_000))
    tracemalloc.start()
    try:
        assert refusal_of(parse, f"<?xml version='1.0'?><!DOCTYPE x [{entities}]><x/>".encode())[0] == "limit_exceeded"
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_code_is_split_between_functions(parse: Parse, counter: TokenCounter) -> None:
    parsed = parse("\n".join(FUNCTION.format(number) for number in range(30)).encode(), "a.py")
    assert parsed.media_type == "text/x-python"
    for piece in chunk(parsed, counter):
        assert piece.text.startswith("def function_")
        assert piece.text.endswith("return 'less'")


@pytest.mark.parametrize("media_type", GRAMMARS)
def test_every_grammar_is_installed(parse: Parse, counter: TokenCounter, media_type: str) -> None:
    suffix = next(suffix for suffix, claimed in BY_SUFFIX.items() if claimed == media_type)
    source = "/* comment */\nvoid f() { return; }\n" * 100
    parsed = parse((f"<?php\n{source}" if suffix == ".php" else source).encode(), f"a{suffix}")
    assert parsed.media_type == media_type
    assert chunk(parsed, counter)


def test_rtf_is_read_with_its_charset_and_without_its_pictures(parse: Parse) -> None:
    picture = b"{\\pict\\pngblip " + b"89504e47" * 100_000 + b"}"
    parsed = parse(b"{\\rtf1\\ansi\\ansicpg1251 \\'cf\\'f0\\b \\'e8\\b0\\par " + picture + b"Euro \\u8364?\\par}")
    assert parsed.text == "При\nEuro €"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (b"so \\u-10179?\\u-8704? it is", "so \U0001f600 it is"),
        (b"\\uc0\\u55357\\u56832 ", "\U0001f600"),
        (b"\\u-8704?\\u-10179?half\\u-10179?", "half"),
        (b"half\\u-10179?\\u8364?", "half\u20ac"),
    ],
)
def test_surrogate_pairs_in_rtf_are_combined(parse: Parse, markup: bytes, text: str) -> None:
    assert parse(b"{\\rtf1\\ansi " + markup + b"\\par}").text == text


@pytest.mark.parametrize("damage", [b"{\\rtf1\\uc x}", b"{\\rtf1 \\u999999999 x}"])
def test_damaged_rtf_is_corrupt(parse: Parse, damage: bytes) -> None:
    assert refusal_of(parse, damage)[0] == "corrupt"
