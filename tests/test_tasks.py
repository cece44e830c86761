"""Tasks are cancelled reliably, and leases are renewed until they are lost."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from ragsvc.tasks import cancel_and_wait, in_background, keep_renewed


async def test_a_task_that_drops_its_first_cancel_is_cancelled_again() -> None:
    cancels = 0

    async def stubborn() -> None:
        nonlocal cancels
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancels += 1
                if cancels > 1:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert task.cancelled()
    assert cancels == 2


async def test_a_failure_before_the_cancel_is_left_to_be_reported() -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    await cancel_and_wait(task)
    with pytest.raises(RuntimeError, match="a bug"):
        task.result()


async def test_a_background_task_ends_with_its_body() -> None:
    async with in_background(asyncio.Event().wait()) as task:  # type: ignore[arg-type]  # it returns True
        assert not task.done()
    assert task.cancelled()


async def test_a_lease_that_cannot_be_renewed_is_given_up_when_it_expires() -> None:
    attempts = 0

    async def renew() -> bool:
        nonlocal attempts
        attempts += 1
        raise OSError("no database")

    with capture_logs() as logs:
        await keep_renewed(renew, interval_s=0.01, lease_s=0.05, event="not_renewed", job=1)
    assert attempts > 1
    assert {(entry["event"], entry["job"]) for entry in logs} == {("not_renewed", 1)}


async def test_an_unexpected_failure_of_a_renewal_is_logged_with_its_traceback() -> None:
    results = iter([RuntimeError("a bug"), OSError("no database")])

    async def renew() -> bool:
        for error in results:
            raise error
        return False

    with capture_logs() as logs:
        await keep_renewed(renew, interval_s=0.0, event="not_renewed", expected=(OSError,))
    assert [bool(entry.get("exc_info")) for entry in logs] == [True, False]
