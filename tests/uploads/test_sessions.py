"""Files of any size are split into parts that stores accept and that add up to the file."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from ragsvc.domain.uploads import Upload, UploadStatus
from ragsvc.settings.groups.base import MIB
from ragsvc.settings.settings import MOST_PARTS
from ragsvc.storage.objects import StoredPart
from ragsvc.uploads.sessions import find_missing, part_size_for

MIN_PART = 8 * MIB
TIB = 1024**4


def session(size_bytes: int, *, part_size_bytes: int) -> Upload:
    return Upload(
        workspace_id=uuid.uuid4(),
        id=uuid.uuid4(),
        bucket="b",
        status=UploadStatus.PENDING,
        object_key="k",
        s3_upload_id="u",
        filename="f",
        mime_type="m",
        declared_size_bytes=size_bytes,
        part_size_bytes=part_size_bytes,
        sha256=None,
        collection_id=None,
        attributes={},
        chunking=None,
        document_id=None,
        error=None,
        expires_at=datetime.now(UTC),
        created_at=datetime.now(UTC),
    )


@given(st.integers(1, 5 * TIB))
@example(1)
@example(MIN_PART)
@example(MIN_PART + 1)
@example(MIN_PART * MOST_PARTS)
@example(MIN_PART * MOST_PARTS + 1)
def test_the_parts_add_up_to_the_file(size_bytes: int) -> None:
    part_size_bytes = part_size_for(size_bytes, min_bytes=MIN_PART)
    upload = session(size_bytes, part_size_bytes=part_size_bytes)
    assert 1 <= upload.part_count <= MOST_PARTS
    assert part_size_bytes >= MIN_PART
    assert part_size_bytes % MIB == 0
    last = upload.size_of_part(upload.part_count)
    assert 1 <= last <= part_size_bytes
    assert (upload.part_count - 1) * part_size_bytes + last == size_bytes


@given(st.integers(1, 40), st.integers(1, 10), st.data())
def test_absent_parts_and_parts_of_the_wrong_size_are_missing(
    size_bytes: int, part_size_bytes: int, data: st.DataObject
) -> None:
    upload = session(size_bytes, part_size_bytes=part_size_bytes)
    numbers = range(1, upload.part_count + 1)
    right = data.draw(st.sets(st.sampled_from(numbers)))
    wrong = data.draw(st.sets(st.sampled_from(numbers))) - right
    parts = [StoredPart(number, upload.size_of_part(number), "e") for number in sorted(right)]
    parts += [StoredPart(number, upload.size_of_part(number) + 1, "e") for number in sorted(wrong)]
    assert set(find_missing(upload, parts)) == set(numbers) - right
