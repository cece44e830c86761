"""JSON responses, RFC 3339 times, and the views that several resources share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.domain.jobs import SubjectKind, format_subject_id
from ragsvc.http.contract.ids import ShownTime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from ragsvc.domain.documents import FailureInfo

# Free-form JSON. It is an alias, because in a view with a field named `object`, `dict[str, object]` would refer to that
# field.
JsonObject: TypeAlias = dict[str, object]


class FailureView(TypedDict):
    """Why something failed; `next_attempt_at` is set while another attempt is scheduled."""

    code: str
    message: str
    retryable: bool
    next_attempt_at: ShownTime | None


class SubjectView(TypedDict):
    """The subject of a job or a deletion."""

    kind: SubjectKind
    id: str


def json_response(view: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response with a view as its JSON body; it is meant for one key only, so caching is forbidden."""
    return web.Response(
        body=orjson.dumps(view),
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type="application/json",
    )


def render_time(moment: datetime) -> str:
    """Return a time in RFC 3339 and UTC, such as `2026-01-31T12:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def render_optional_time(moment: datetime | None) -> str | None:
    """Return the time as `render_time` does; None for None."""
    return render_time(moment) if moment else None


def render_failure(failure: FailureInfo | None) -> FailureView | None:
    """Return why something failed, or None."""
    if failure is None:
        return None
    return {
        "code": failure.code,
        "message": failure.message,
        "retryable": failure.retryable,
        "next_attempt_at": render_optional_time(failure.next_attempt_at),
    }


def render_subject(kind: SubjectKind, subject_id: UUID) -> SubjectView:
    return {"kind": kind, "id": format_subject_id(kind, subject_id)}
