"""The kind of text that a file name or a Content-Type header claims."""

from __future__ import annotations

from pathlib import PurePath

from ragsvc.media_types.content_types import bare_type
from ragsvc.media_types.formats import ALIASES, BY_SUFFIX, PLAIN_SUFFIXES, PLAIN_TEXT, TEXT_TYPES


def claimed_text_type(filename: str, mime_type: str) -> str:
    """Return the text type for the file name's suffix, else for the header, else `text/plain`."""
    by_name = BY_SUFFIX.get(PurePath(filename).suffix.lower())
    if by_name is not None:
        return by_name
    claimed = _claimed_type(mime_type)
    return claimed if claimed in TEXT_TYPES else PLAIN_TEXT


def claims_text(filename: str, mime_type: str) -> bool:
    """Return whether the file name or the header claims any kind of text."""
    suffix = PurePath(filename).suffix.lower()
    claimed = _claimed_type(mime_type)
    return suffix in BY_SUFFIX or suffix in PLAIN_SUFFIXES or claimed in TEXT_TYPES or claimed.startswith("text/")


def _claimed_type(mime_type: str) -> str:
    claimed = bare_type(mime_type)
    return ALIASES.get(claimed, claimed)
