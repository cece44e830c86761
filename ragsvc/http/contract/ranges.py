"""Range and conditional requests for files (RFC 9110, 13 and 14), and the file headers of responses."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from ragsvc.errors.requests import RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)
_MAX_DIGITS = 18


def parse_range(text: str, size_bytes: int) -> tuple[int, int] | None:
    """Return the first and last byte of a Range header, or None to send the whole file.

    Malformed and multiple ranges are ignored, as RFC 9110 allows.

    Raises:
        RangeNotSatisfiable: the range begins after the end of the file.
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
    """Return the range to send, or None for the whole file; raises like `parse_range`."""
    text = headers.get("Range")
    if text is None:
        return None
    # A client must not combine ranges of different versions of a file.
    condition = headers.get("If-Range")
    if condition is not None and condition.strip() not in {etag, http_date(modified)}:
        return None
    return parse_range(text, size_bytes)


def is_unchanged(headers: Mapping[str, str], *, etag: str) -> bool:
    """Return whether the client already has this version of the file."""
    known = {tag.strip().removeprefix("W/") for tag in headers.get("If-None-Match", "").split(",")}
    return etag in known or "*" in known


def http_date(moment: datetime) -> str:
    """Return a time in the format of HTTP headers."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def content_disposition(filename: str) -> str:
    """Return the header that makes a browser save the file under its name (RFC 6266)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _suffix(length: int, size_bytes: int) -> tuple[int, int]:
    if length == 0:
        raise RangeNotSatisfiable(f"The file has {size_bytes} bytes.")
    return max(size_bytes - length, 0), size_bytes - 1
