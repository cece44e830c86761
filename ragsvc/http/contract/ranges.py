"""Serving parts of a file (RFC 9110, 13 and 14): what a request asks for, and how a file is named to a client."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from ragsvc.errors import RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)
_MAX_DIGITS = 18


def parse_range(text: str, size_bytes: int) -> tuple[int, int] | None:
    """Return the first and last byte of a Range header; None where the whole file answers it.

    What is malformed, or asks for several ranges, is ignored, as RFC 9110 allows.

    Raises:
        RangeNotSatisfiable: the file does not have these bytes.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or max(map(len, match.groups())) > _MAX_DIGITS:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size_bytes) if last else None
    if last and int(last) < int(first):
        return None
    if int(first) >= size_bytes:
        raise RangeNotSatisfiable(f"The file has {size_bytes} bytes.")
    return int(first), min(int(last), size_bytes - 1) if last else size_bytes - 1


def wanted_range(
    headers: Mapping[str, str], *, size_bytes: int, etag: str, modified: datetime
) -> tuple[int, int] | None:
    """Return the bytes that a request asks for; None for all of them. Raises like `parse_range`."""
    text = headers.get("Range")
    if text is None:
        return None
    # A range of another state of the file would be put together with the wrong bytes.
    condition = headers.get("If-Range")
    if condition is not None and condition.strip() not in {etag, http_date(modified)}:
        return None
    return parse_range(text, size_bytes)


def is_unchanged(headers: Mapping[str, str], *, etag: str) -> bool:
    """Tell whether the client already has this state of the file."""
    known = {tag.strip().removeprefix("W/") for tag in headers.get("If-None-Match", "").split(",")}
    return etag in known or "*" in known


def http_date(moment: datetime) -> str:
    """Return a time as HTTP headers write it."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def content_disposition(filename: str) -> str:
    """Return the header that makes a browser save the file under its name (RFC 6266)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _suffix(length: int, size_bytes: int) -> tuple[int, int]:
    if length == 0:
        raise RangeNotSatisfiable(f"The file has {size_bytes} bytes.")
    return max(size_bytes - length, 0), size_bytes - 1
