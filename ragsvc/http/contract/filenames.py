"""Cleans the file names and media types that clients declare."""

from __future__ import annotations

import mimetypes
import re
import unicodedata

from ragsvc.media_types.charsets import find_charset
from ragsvc.media_types.content_types import bare_type, charset_parameter
from ragsvc.media_types.formats import BY_SUFFIX, DOCUMENTS_BY_SUFFIX, PLAIN_SUFFIXES, PLAIN_TEXT, UNKNOWN

MAX_FILENAME_CHARS = 255
UNNAMED = "unnamed"

# Zero-width joiners are needed in Persian words and in emoji, so they are removed only next to whitespace and at either
# end of the name.
_JOINERS = "\u200c\u200d"
_LOOSE_JOINERS = re.compile(rf"(?<![{_JOINERS}])[{_JOINERS}]++(?!\S)|(?<!\S)[{_JOINERS}]+")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MIME_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_CHARSET = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,39}")
# Media types of supported files that neither `media_types` nor many Python versions define.
_OTHER_TYPES = {
    ".xhtml": "application/xhtml+xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
}


def _make_types() -> mimetypes.MimeTypes:
    """Return the media types by file extension: Python's own, and ours where Python has none."""
    # Ignore /etc/mime.types, so that the result does not depend on the machine.
    types = mimetypes.MimeTypes(filenames=())
    ours = dict.fromkeys(PLAIN_SUFFIXES, PLAIN_TEXT) | BY_SUFFIX | DOCUMENTS_BY_SUFFIX | _OTHER_TYPES
    for suffix, mime_type in ours.items():
        if suffix not in types.types_map[True]:
            types.add_type(mime_type, suffix)
    return types


_TYPES_BY_NAME = _make_types()


def clean_filename(declared: str) -> str:
    """Return a name that is safe to display and to store.

    It has no path, no control or bidirectional characters, and at most 255 characters. It is never part of an object
    key, because object keys consist of ids.
    """
    name = re.split(r"[/\\]", declared)[-1]
    name = "".join(char for char in name if char in _JOINERS or unicodedata.category(char) not in _INVISIBLE)
    name = _trim(unicodedata.normalize("NFC", name))
    if len(name) > MAX_FILENAME_CHARS:
        stem, dot, extension = name.rpartition(".")
        has_extension = dot and len(extension) <= 16  # noqa: PLR2004 - anything longer is not an extension
        name = f"{stem[: MAX_FILENAME_CHARS - len(extension) - 1]}.{extension}" if has_extension else name
        name = _trim(name[:MAX_FILENAME_CHARS])
    return name if name not in {"", ".", ".."} else UNNAMED


def _trim(name: str) -> str:
    return _LOOSE_JOINERS.sub("", name).strip()


def mime_type_of(declared: str, filename: str) -> str:
    """Return the declared media type if it is valid, else the type that the file name's extension implies.

    Its parameters are dropped, except for a supported charset, as in `text/plain; charset=cp866`.
    """
    mime_type = bare_type(declared)
    if not _MIME_TYPE.fullmatch(mime_type) or mime_type == UNKNOWN:
        mime_type = _TYPES_BY_NAME.guess_type(filename)[0] or UNKNOWN
    charset = charset_parameter(declared) or ""
    is_known = _CHARSET.fullmatch(charset) and find_charset(charset)
    return f"{mime_type}; charset={charset}" if is_known else mime_type
