"""A process that dies before or after any of its writes leaves a correct offset, and the upload can continue."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.storage.store import Storage
from tests.http.conftest import Api
from tests.http.tus.support import assert_stored, checksum, content_of, create, head, offset_of, patch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.http.conftest import ClientMaker, Tenant

PART = 5 * 1024 * 1024
# The last part is small, and the tested request starts when the upload already has a tail.
CONTENT = content_of(2 * PART + 1000)
BEGUN = 1000
WRITES = ("upload_part", "put_object", "stream_part", "delete_object", "complete_multipart")


class ProcessDied(Exception):
    """The process has died."""


class Crash:
    """Stops the process at one write to the store: before the write if the turn is even, after it if odd."""

    def __init__(self, turn: int) -> None:
        self.has_happened = False
        self._write, self._is_after = divmod(turn, 2)

    def wrap(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return the function with the crash added; from the crash on, it raises ProcessDied."""

        @functools.wraps(write)
        async def crashing(*arguments: Any, **options: Any) -> Any:
            if self.has_happened:
                raise ProcessDied
            self.has_happened = self._write == 0
            self._write -= 1
            if not self.has_happened:
                return await write(*arguments, **options)
            if self._is_after:
                await write(*arguments, **options)
            raise ProcessDied

        return crashing


@pytest.mark.parametrize("kind", ["plain", pytest.param("checked", marks=pytest.mark.chaos), "checked and wrong"])
async def test_no_crash_between_two_writes_leads_to_a_wrong_offset(
    tenant: Tenant, make_client: ClientMaker, kind: str
) -> None:
    api = Api(await make_client(upload_part_size_bytes=PART), tenant.api.key)
    rest = CONTENT[BEGUN:]
    sent = bytes(len(rest)) if kind == "checked and wrong" else rest
    headers = {} if kind == "plain" else checksum("sha256", rest)
    crashes = 0
    while True:
        path = await create(api, len(CONTENT))
        await patch(api, path, 0, CONTENT[:BEGUN])
        crash = Crash(crashes)
        with pytest.MonkeyPatch.context() as patched:
            for name in WRITES:
                patched.setattr(Storage, name, crash.wrap(getattr(Storage, name)))
            response = await patch(api, path, BEGUN, sent, **headers)
        assert response.status == (500 if crash.has_happened else 460 if kind == "checked and wrong" else 204)
        offset = await offset_of(api, path)
        assert offset == BEGUN or kind != "checked and wrong"
        # Complete one part after the other.
        for end in (PART, 2 * PART, len(CONTENT)):
            if offset < end:
                response = await patch(api, path, offset, CONTENT[offset:end])
                assert response.headers["Upload-Offset"] == str(end), (crashes, offset, end)
                offset = end
        await assert_stored(api, await head(api, path), CONTENT)
        if not crash.has_happened:
            break
        crashes += 1
    assert crashes >= 4
