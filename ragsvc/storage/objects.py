"""Objects, parts and uploads as the store describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ObjectBody:
    """An object being read: its size, and its bytes in blocks of at most 256 KiB."""

    size_bytes: int
    blocks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A stored part; `etag` is unquoted and, if `is_md5`, the MD5 hex digest of the bytes."""

    number: int
    size_bytes: int
    etag: str
    is_md5: bool = True


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A complete object with its user-defined metadata."""

    size_bytes: int
    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as the store lists it."""

    object_key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """A multipart upload as the store lists it."""

    object_key: str
    upload_id: str
    initiated_at: datetime
