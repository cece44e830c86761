"""The API description: /openapi.json for tools, /docs for people."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from ragsvc.http.auth import Access
from ragsvc.http.contract.openapi.document import describe
from ragsvc.http.contract.operations import Media, operation
from ragsvc.http.contract.problems import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

routes = web.RouteTableDef()

_DOCUMENT = web.AppKey("openapi_document", dict)
# The page loads no other resources.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; color-scheme: light dark }
h2 { margin-top: 2.5rem; text-transform: capitalize }
details { border-bottom: 1px solid #8884; padding: .4rem 0 } summary { cursor: pointer }
code, pre { font: 14px/1.4 ui-monospace, monospace } pre { overflow-x: auto; background: #8882; padding: .6rem }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600 }
table { border-collapse: collapse }
td, th { border-bottom: 1px solid #8884; padding: .2rem .8rem .2rem 0; text-align: left }
"""


def prepare_description(app: web.Application) -> None:
    """Generate the description; call it after all routes have been added."""
    app[_DOCUMENT] = describe(app)


@routes.get("/openapi.json")
@operation("Get the OpenAPI description", Access.PUBLIC, responses={200: Media("application/json", "OpenAPI 3.1.")})
async def get_openapi(request: web.Request) -> web.Response:
    """Return the OpenAPI document."""
    return web.Response(body=orjson.dumps(request.app[_DOCUMENT]), content_type="application/json")


@routes.get("/docs")
@operation("Read the API reference", Access.PUBLIC, responses={200: Media("text/html", "The API reference.")})
async def get_docs(request: web.Request) -> web.Response:
    """Return the description as a self-contained HTML page."""
    page = "".join(_page(request.app[_DOCUMENT]))
    return web.Response(
        text=page, content_type="text/html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    )


def _page(document: dict[str, Any]) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>ragsvc API</title><style>{STYLE}</style>"
    yield "<h1>ragsvc API</h1><p>OpenAPI: <a href=/openapi.json>/openapi.json</a></p>"
    by_tag: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, described in item.items():
            by_tag.setdefault(described["tags"][0], []).append(_operation_html(method, path, described))
    for tag, operations in by_tag.items():
        yield f"<h2>{html.escape(tag)}</h2>{''.join(operations)}"
    yield "<h2>Problems</h2><table><tr><th>code<th>status<th>title"
    for code, problem in sorted(PROBLEMS.items()):
        yield f"<tr id={code}><td><code>{code}</code><td>{problem.status}<td>{html.escape(problem.title)}"
    yield "</table><h2>Schemas</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f"<details id={html.escape(name, quote=True)}><summary>{html.escape(name)}</summary>{_json_html(schema)}"
        yield "</details>"
    yield "</html>"


def _operation_html(method: str, path: str, described: dict[str, Any]) -> str:
    rest = {name: described[name] for name in ("parameters", "requestBody", "responses") if described.get(name)}
    return (
        f"<details><summary><span class=method>{method.upper()}</span> <code>{html.escape(path)}</code> "
        f"{html.escape(described['summary'])}</summary><p>{html.escape(described.get('description', ''))}</p>"
        f"{_json_html(rest)}</details>"
    )


def _json_html(value: object) -> str:
    return f"<pre>{html.escape(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())}</pre>"
