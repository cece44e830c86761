"""Text in common charsets is decoded correctly."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import pytest

from ragsvc.errors.work import DocumentRejected
from ragsvc.ingestion.parsing.detection.decoding import decode
from ragsvc.media_types.charsets import find_charset
from ragsvc.media_types.content_types import charset_parameter
from tests.ingestion.support import assert_linear_time, refusal_of

if TYPE_CHECKING:
    from tests.ingestion.conftest import Parse

FRENCH = "L'été dernier, nous avons visité le château où la forêt était déjà brûlée. Ça coûte cher, dit le garçon."
GERMAN = "Über den Wäldern liegt Nebel; die Straße führt größtenteils durch schöne Täler nach Österreich."
POLISH = "Zażółć gęślą jaźń. W Szczebrzeszynie chrząszcz brzmi w trzcinie, a łódź płynie po rzece."
RUSSIAN = "Привет, мир! Это проверка кодировки текста на русском языке. Съешь же ещё этих мягких французских булок."
JAPANESE = "これは日本語のテキストです。文字コードの判定を試しています。吾輩は猫である。名前はまだ無い。"
CHINESE = "这是一个中文文本，用来测试字符编码的检测。我们希望它能够正确识别。"  # noqa: RUF001 - Chinese punctuation
QUOTES = "The “smart quotes” — and dashes – are from Windows. It’s 5 € or £4, naïve café."  # noqa: RUF001 - typographic quotes and dashes


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        (FRENCH, "latin-1"),
        (FRENCH, "cp1252"),
        (FRENCH, "utf-8"),
        (GERMAN, "latin-1"),
        (QUOTES, "cp1252"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (CHINESE, "gb18030"),
        *((text, charset) for text in (FRENCH, RUSSIAN, "Größe\r\n5 µm\r\n") for charset in ("utf-16-le", "utf-16-be")),
    ],
)
def test_undeclared_charsets_are_detected(text: str, charset: str) -> None:
    assert decode(text.encode(charset), declared=None) == text


@pytest.mark.parametrize(
    ("mark", "charset"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_a_byte_order_mark_decides_and_is_removed(mark: bytes, charset: str) -> None:
    assert decode(mark + JAPANESE.encode(charset), declared="cp1252") == JAPANESE


def test_a_declared_charset_is_used_if_the_bytes_allow_it() -> None:
    word = "Привет".encode("cp1251")
    assert decode(word, declared="windows-1251") == "Привет"
    assert decode(RUSSIAN.encode("cp1251"), declared="utf-8") == RUSSIAN


def test_the_charset_of_the_header_is_used_for_a_file(parse: Parse) -> None:
    word = "Чайник".encode("cp866")
    assert parse(word, "a.txt", mime_type="text/plain; charset=cp866").text == "Чайник"
    assert parse(RUSSIAN.encode("cp1251"), "a.txt", mime_type="text/plain; charset=utf-8").text == RUSSIAN


def test_latin_1_means_windows_1252_as_in_browsers() -> None:
    assert decode("“5 €”".encode("cp1252"), declared="ISO-8859-1") == "“5 €”"


@pytest.mark.parametrize(
    "label", ["zlib", "base64", "rot13", "unicode_escape", "punycode", "idna", "nonsense", "\0", ""]
)
def test_codecs_that_are_not_charsets_cannot_be_declared(label: str) -> None:
    assert find_charset(label) is None


def test_the_charset_is_read_from_the_content_type() -> None:
    assert charset_parameter('text/plain; Charset="Shift_JIS"') == "shift_jis"
    assert charset_parameter("text/plain") is None
    assert charset_parameter("") is None


def test_damaged_utf8_loses_only_the_damaged_bytes() -> None:
    data = (FRENCH * 20).encode() + b"\xff" + FRENCH.encode()
    assert decode(data, declared=None) == FRENCH * 20 + "\ufffd" + FRENCH


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
def test_a_stray_byte_at_the_end_of_text_with_a_byte_order_mark_is_replaced(parse: Parse, charset: str) -> None:
    parsed = parse(FRENCH.encode(charset) + b"\n", "a.txt")
    assert parsed.text == FRENCH + "\ufffd"
    assert [warning.code for warning in parsed.warnings] == ["damaged_characters"]


def test_a_short_text_with_a_stray_byte_is_an_encoding_error(parse: Parse) -> None:
    assert refusal_of(parse, "Kettle".encode("utf-16") + b"\n", "a.txt")[0] == "encoding"


def test_a_byte_order_mark_that_contradicts_the_text_is_an_encoding_error() -> None:
    with pytest.raises(DocumentRejected) as refusal:
        decode(codecs.BOM_UTF32_LE + b"abcdefg", declared=None)
    assert refusal.value.work_code == "encoding"


def test_bytes_in_no_charset_are_an_encoding_error() -> None:
    with pytest.raises(DocumentRejected) as refusal:
        decode(bytes(range(0x80, 0x100)) * 8, declared=None)
    assert refusal.value.work_code == "encoding"


def test_accents_late_in_a_long_file_are_considered() -> None:
    text = "plain ascii line\n" * 20_000 + FRENCH
    assert decode(text.encode("latin-1"), declared=None) == text


def test_accents_far_apart_in_long_lines_are_decoded_in_linear_time() -> None:
    def check(text: str) -> None:
        assert decode(text.encode("latin-1"), declared=None) == text

    assert_linear_time(lambda size: ("plain ascii words " * size + "brûlée\n") * 3, check, size=20_000)
