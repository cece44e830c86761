"""Dead letters, for the operator: /v1/admin/dlq."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from aiohttp import web
from pydantic import AwareDatetime, Field, model_validator
from typing_extensions import TypedDict

from ragsvc.errors import NotFound, ReplayRunning
from ragsvc.http.auth import Door
from ragsvc.http.bodies import Body, read_body, read_query
from ragsvc.http.handlers.admin_queues import parse_queue
from ragsvc.http.ids import WorkspaceId
from ragsvc.http.operations import operation
from ragsvc.http.paging import LimitQuery, OrdinalCursor, Page, encode_cursor
from ragsvc.http.rendering import json_response
from ragsvc.http.state import resources_of
from ragsvc.jobs import dead_letters
from ragsvc.models import Queue

routes = web.RouteTableDef()

MAX_IDS = 1000
MAX_CODE_CHARS = 100
