"""A process that dies before or after any of its writes leaves an offset that is true, and a file that can go on."""

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
# The last part is small; a request begins behind a tail.
CONTENT = content_of(2 * PART + 1000)
BEGUN = 1000
WRITES = ("upload_part", "put_object", "stream_part", "delete_object", "complete_multipart")


class Death(Exception):
    """The process is gone."""


class Fate:
    """Lets the n-th write to the store be the last thing that happens; odd ones are not even begun."""

    def __init__(self, turn: int) -> None:
        self.has_struck = False
        self._write, self._is_begun = divmod(turn, 2)

    def wrap(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return the write as the dying process does it."""

        @functools.wraps(write)
        async def fated(*arguments: Any, **options: Any) -> Any:
            if self.has_struck:
                raise Death
            self.has_struck = self._write == 0
            self._write -= 1
            if not self.has_struck:
                return await write(*arguments, **options)
            if self._is_begun:
                await write(*arguments, **options)
            raise Death

        return fated


@pytest.mark.parametrize("kind", ["plain", pytest.param("checked", marks=pytest.mark.chaos), "checked and wrong"])
async def test_no_death_between_two_writes_makes_the_store_tell_a_wrong_offset(
    tenant: Tenant, make_client: ClientMaker, kind: str
) -> None:
    api = Api(await make_client(upload_part_size_bytes=PART), tenant.api.key)
    rest = CONTENT[BEGUN:]
    sent = bytes(len(rest)) if kind == "checked and wrong" else rest
    headers = {} if kind == "plain" else checksum("sha256", rest)
    deaths = 0
    while True:
        path = await create(api, len(CONTENT))
        await patch(api, path, 0, CONTENT[:BEGUN])
        fate = Fate(deaths)
        with pytest.MonkeyPatch.context() as patched:
            for name in WRITES:
                patched.setattr(Storage, name, fate.wrap(getattr(Storage, name)))
            answer = await patch(api, path, BEGUN, sent, **headers)
        assert answer.status == (500 if fate.has_struck else 460 if kind == "checked and wrong" else 204)
        offset = await offset_of(api, path)
        assert offset == BEGUN or kind != "checked and wrong"
        # In steps that make one part after the other whole.
        for end in (PART, 2 * PART, len(CONTENT)):
            if offset < end:
                answer = await patch(api, path, offset, CONTENT[offset:end])
                assert answer.headers["Upload-Offset"] == str(end), (deaths, offset, end)
                offset = end
        await assert_stored(api, await head(api, path), CONTENT)
        if not fate.has_struck:
            break
        deaths += 1
    assert deaths >= 4
