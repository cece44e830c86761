"""What clients see of calls about many documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

from ragsvc.domain.bulk import BulkAction, BulkStatus
from ragsvc.domain.ids import format_id

# pydantic reads the annotations for the API's description
from ragsvc.http.contract.ids import ShownBulkId, ShownTime  # noqa: TC001
from ragsvc.http.rendering import render_failure, render_optional_time, render_time
from ragsvc.http.views import FailureView  # noqa: TC001

if TYPE_CHECKING:
    from ragsvc.domain.bulk import BulkOperation


class BulkOperationView(TypedDict):
    """A call about many documents: of the `matched` ones so many have a job of their own by now, or were left alone.

    Documents that were deleted, or were being ingested, when their turn came are `skipped`.
    """

    id: ShownBulkId
    action: BulkAction
    status: BulkStatus
    matched: int
    accepted: int
    skipped: int
    progress: float
    error: FailureView | None
    created_at: ShownTime
    completed_at: ShownTime | None


class BulkCountView(TypedDict):
    """What a bulk operation would be about."""

    dry_run: Literal[True]
    matched: int


def render_bulk_operation(operation: BulkOperation) -> BulkOperationView:
    """Return an operation on many documents."""
    taken = operation.accepted + operation.skipped
    is_over = operation.status is BulkStatus.COMPLETED
    return {
        "id": format_id("bulk", operation.id),
        "action": operation.action,
        "status": operation.status,
        "matched": operation.matched,
        "accepted": operation.accepted,
        "skipped": operation.skipped,
        # Some may have gone by themselves, so the count alone does not tell.
        "progress": 1.0 if is_over else round(min(taken / max(operation.matched, 1), 1.0), 4),
        "error": render_failure(operation.error),
        "created_at": render_time(operation.created_at),
        "completed_at": render_optional_time(operation.completed_at),
    }
