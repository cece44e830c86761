"""The service itself, for the operator: rates, settings and checks under /v1/admin."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Literal

from aiohttp import web
from pydantic import Field, SecretStr
from typing_extensions import TypedDict

from ragsvc.db import queue_state
from ragsvc.domain.jobs import Queue
from ragsvc.http.auth import Access
from ragsvc.http.contract.bodies import Query, read_query
from ragsvc.http.contract.ids import ShownTime
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.state import RESOURCES, resources_of
from ragsvc.preflight import check_service
from ragsvc.settings.settings import FIELDS, GROUP_OF
from ragsvc.telemetry.redaction import redact

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings

routes = web.RouteTableDef()

SHORTEST_WINDOW_S = 60
LONGEST_WINDOW_S = 86_400
BUCKETS = 60
MASK = "***"


class RatesQuery(Query):
    """The period up to now."""

    window_s: Annotated[
        int, Field(ge=SHORTEST_WINDOW_S, le=LONGEST_WINDOW_S, description="The length of the period, in seconds.")
    ] = 3600


class BucketView(TypedDict):
    """What ended in an interval of `bucket_s` seconds that begins at `at`."""

    at: ShownTime
    done: int
    dead: int


class RateView(TypedDict):
    """A queue's jobs that ended in the period, in total and by interval, the oldest first."""

    queue: Queue
    done: int
    dead: int
    buckets: list[BucketView]


class RatesView(TypedDict):
    """The rates of every queue."""

    window_s: int
    bucket_s: float
    data: list[RateView]


class SettingView(TypedDict):
    """A setting in force; `value` is masked if it is a secret."""

    name: str
    group: str
    value: str | None
    is_default: bool
    is_secret: bool
    description: str


class SettingsView(TypedDict):
    """Every setting of the process that responded, and its version."""

    version: str
    data: list[SettingView]


class FindingView(TypedDict):
    """The result of one check; without faults, the part works."""

    part: str
    faults: list[str]


class CheckView(TypedDict):
    """The results of all checks."""

    status: Literal["ok", "faulty"]
    data: list[FindingView]


@routes.get("/v1/admin/rates")
@operation("Show rates", Access.ADMIN, query=RatesQuery, responses={200: RatesView})
async def get_rates(request: web.Request) -> web.Response:
    """Return how many jobs were completed and how many failed permanently, in 60 intervals up to now.

    Dead letters that were replayed or discarded since are not counted.
    """
    query = read_query(request, RatesQuery)
    bucket_s = query.window_s / BUCKETS
    async with resources_of(request).pool.acquire() as conn:
        rows = await queue_state.select_rates(conn, bucket=timedelta(seconds=bucket_s), buckets=BUCKETS)
    return json_response(
        RatesView(window_s=query.window_s, bucket_s=bucket_s, data=[_render_rate(queue, rows) for queue in Queue])
    )


def _render_rate(queue: Queue, rows: list[queue_state.Rate]) -> RateView:
    own = [row for row in rows if row.queue is queue]
    return {
        "queue": queue,
        "done": sum(row.done for row in own),
        "dead": sum(row.dead for row in own),
        "buckets": [{"at": render_time(row.at), "done": row.done, "dead": row.dead} for row in own],
    }


@routes.get("/v1/admin/settings")
@operation("Show the settings", Access.ADMIN, responses={200: SettingsView})
async def get_settings(request: web.Request) -> web.Response:
    """Return the settings of the process that responds; secrets are masked, also those in URLs."""
    settings = resources_of(request).settings
    return json_response(SettingsView(version=version("ragsvc"), data=_render_settings(settings)))


def _render_settings(settings: Settings) -> list[SettingView]:
    values = settings.flat()
    return [
        {
            "name": name.upper(),
            "group": GROUP_OF[name],
            "value": _show(values[name]),
            "is_default": not field.is_required() and values[name] == field.default,
            "is_secret": "SecretStr" in str(field.annotation),
            "description": field.description or "",
        }
        for name, field in FIELDS.items()
    ]


def _show(value: object) -> str | None:
    match value:
        case None:
            return None
        case SecretStr():
            return MASK
        case bool():
            return str(value).lower()
        case _:
            return redact(str(value))


@routes.get("/v1/admin/check")
@operation("Check what the service depends on", Access.ADMIN, responses={200: CheckView})
async def check_dependencies(request: web.Request) -> web.Response:
    """Check Postgres, Redis, the object store and the models, as `ragsvc check` does.

    This stores and removes a small object and calls every model.
    """
    findings = await check_service(request.app[RESOURCES])
    return json_response(
        CheckView(
            status="faulty" if any(one.faults for one in findings) else "ok",
            data=[FindingView(part=one.part, faults=list(one.faults)) for one in findings],
        )
    )
