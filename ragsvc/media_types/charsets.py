"""The charsets that a header or markup can declare, and the codecs that their labels map to."""

from __future__ import annotations

import codecs

# Labels are interpreted as in browsers (https://encoding.spec.whatwg.org/#names-and-labels).
LABELS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
# Charsets that a declaration can name. Python has other codecs that are not charsets, such as zlib or base64.
DECLARABLE_NAMES = (
    "utf-8 utf-16 utf-16-le utf-16-be utf-32 cp866 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7"
    " iso8859-8 iso8859-10 iso8859-13 iso8859-14 iso8859-15 iso8859-16 koi8-r koi8-u mac-roman mac-cyrillic cp437"
    " cp850 cp852 cp874 cp932 cp949 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 gb18030"
    " big5hkscs euc_jp iso2022_jp"
)
DECLARABLE = frozenset(DECLARABLE_NAMES.split())


def find_charset(label: str | None) -> str | None:
    """Return Python's codec name for a charset label; None if it is unknown or does not name a charset of documents."""
    try:
        name = codecs.lookup(label or "").name
    except (LookupError, ValueError):
        return None
    name = LABELS.get(name, name)
    return name if name in DECLARABLE else None
