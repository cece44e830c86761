"""Decodes text by its byte order mark or declared charset, else as UTF-8 or the most plausible legacy charset."""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.media_types.charsets import find_charset

# UTF-32 comes before UTF-16, because its little-endian mark begins with that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Charsets that are common in files without a declaration; rarer candidates would only make the guess worse.
GUESSABLE = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "cp850", "cp866"),
    *("iso8859_2", "iso8859_5", "koi8_r", "mac_roman", "cp932", "euc_jp", "cp949", "gb18030", "big5"),
]
SAMPLE_BYTES = 32 * 1024
NON_ASCII = re.compile(rb"[\x80-\xff]")
# To guess the charset, up to this many bytes on each side of a non-ASCII byte are sampled, within the same line.
CONTEXT_BYTES = 2000
MARKUP_BYTES = 4096
META_CHARSET = re.compile(rb"""<meta[^>]{1,500}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{1,200}?encoding\s*=\s*["']([\w.:-]{1,40})""")
# Accept a charset despite damaged bytes if there are at least this many intact characters for each damaged one.
INTACT_PER_DAMAGED = 50


def decode(data: bytes, *, declared: str | None) -> str:
    """Return the text of a file; `declared` is the charset that its header or markup declares, if any.

    Raises:
        DocumentRejected: `encoding` if no charset fits.
    """
    for mark, charset in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _decode_marked(data[len(mark) :], charset)
    charsets = (guess_utf16(data), find_charset(declared), "iso2022_jp" if b"\x1b$" in data else None, "utf-8")
    for candidate in charsets:
        if candidate is not None:
            try:
                return data.decode(candidate)
            except UnicodeDecodeError:
                continue
    return _decode_damaged(data, "utf-8") or _decode_by_guess(data)


def declared_charset(data: bytes) -> str | None:
    """Return the charset that an XML declaration or an HTML meta element declares, or None."""
    head = data[:MARKUP_BYTES]
    match = XML_ENCODING.search(head) or META_CHARSET.search(head)
    label = match[1].decode("ascii", errors="ignore") if match else None
    # The declaration was readable as ASCII, so the markup is not in UTF-16 even if it says so.
    return None if (find_charset(label) or "utf-16").startswith("utf-16") else label


def guess_utf16(data: bytes) -> str | None:
    """Return the UTF-16 charset of text without a byte order mark, or None for anything else.

    In UTF-16, the NULs of ASCII characters are all at even or all at odd offsets. Binary data has NULs at both, or
    unpaired surrogates, or control characters.
    """
    head = data[: SAMPLE_BYTES & ~1]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if not even + odd or min(even, odd) * 20 > max(even, odd):
        return None
    charset = "utf-16-le" if odd > even else "utf-16-be"
    try:
        text = head[: len(head) & ~1].decode(charset)
    except UnicodeDecodeError as error:
        # The sample can end in the middle of a surrogate pair.
        if error.end < len(head) - 1:
            return None
        text = head[: error.start].decode(charset)
    printable = sum(character.isprintable() or character in "\t\n\r\f" for character in text)
    return charset if text and printable >= len(text) * 0.98 else None


def _decode_marked(data: bytes, charset: str) -> str:
    try:
        # Accept lone surrogates: normalisation drops them.
        return data.decode(charset, errors="surrogatepass" if charset.startswith("utf-16") else "strict")
    except UnicodeDecodeError:
        recovered = _decode_damaged(data, charset)
    if recovered is None:
        raise DocumentRejected(DocumentErrorCode.ENCODING, f"the text does not match its byte order mark ({charset})")
    return recovered


def _decode_damaged(data: bytes, charset: str) -> str | None:
    text = data.decode(charset, errors="replace")
    damaged = text.count("\ufffd")
    # ASCII characters are no evidence of UTF-8, because nearly every charset includes them.
    unmarked = len(text.encode("ascii", errors="ignore")) if charset == "utf-8" else 0
    intact = len(text) - unmarked - damaged
    return text if intact >= INTACT_PER_DAMAGED * damaged else None


def _decode_by_guess(data: bytes) -> str:
    sample = _sample(data)
    matches = from_bytes(sample, cp_isolation=GUESSABLE) or from_bytes(sample)
    candidates = {name for match in matches for name in (match.encoding, *match.could_be_from_charset)}
    # Western text often fits Eastern European charsets too: prefer the most common one.
    ranked = (["cp1252"] if "cp1252" in candidates else []) + [match.encoding for match in matches]
    for charset in ranked:
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    if ranked:
        return data.decode(ranked[0], errors="replace")
    raise DocumentRejected(DocumentErrorCode.ENCODING, "the charset of the text could not be detected")


def _sample(data: bytes) -> bytes:
    lines: list[bytes] = []
    size = end = 0
    while size < SAMPLE_BYTES and (match := NON_ASCII.search(data, end)):
        position = match.start()
        start = max(data.rfind(b"\n", end, position) + 1, end, position - CONTEXT_BYTES)
        limit = min(position + 1 + CONTEXT_BYTES, len(data))
        end = data.find(b"\n", position, limit) + 1 or limit
        lines.append(data[start:end])
        size += end - start
    return b"".join(lines)
