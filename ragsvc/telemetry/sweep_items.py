"""Isolation of the items of a sweep: one that fails is logged, counted and postponed, and the others are swept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import structlog

from ragsvc.telemetry.metrics import SWEEP_ITEMS_FAILED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

# Longest time that a sweep spends on one item, so that one that hangs delays the others only once.
ITEM_TIMEOUT_S = 30.0

Item = TypeVar("Item")

log = structlog.get_logger(__name__)


async def sweep_each(
    items: Iterable[Item],
    work: Callable[[Item], Awaitable[object]],
    *,
    kind: str,
    postpone: Callable[[Item], Awaitable[object]] | None = None,
    timeout_s: float = ITEM_TIMEOUT_S,
) -> int:
    """Do the work for each item and return how many succeeded.

    An item that fails or takes longer than `timeout_s` is passed to `postpone`, which should keep the next sweeps from
    selecting it for a while. `kind` names the items in logs and metrics.
    """
    succeeded = 0
    for item in items:
        try:
            async with asyncio.timeout(timeout_s):
                await work(item)
        except Exception as error:  # noqa: BLE001 - one item must not stop the others
            record_failed_item(kind, item, error)
            await _postpone(item, postpone, kind)
        else:
            succeeded += 1
    return succeeded


def record_failed_item(kind: str, item: object, error: Exception) -> None:
    """Log and count an item that could not be swept."""
    log.warning("sweep_item_failed", kind=kind, item=str(getattr(item, "id", item)), error=error)
    SWEEP_ITEMS_FAILED.labels(kind).inc()


async def _postpone(item: Item, postpone: Callable[[Item], Awaitable[object]] | None, kind: str) -> None:
    if postpone is None:
        return
    try:
        await postpone(item)
    except Exception as error:  # noqa: BLE001 - the next sweep selects the item again
        log.warning("sweep_item_not_postponed", kind=kind, error=error)
