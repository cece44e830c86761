"""Limits on the number of answers at once, and on the models that answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db import chat_sessions
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.state import RESOURCES
from ragsvc.http.v1.run_responses import RUNS
from tests.http.conftest import make_tenant, operator_of
from tests.http.support.chat import DEADLINE_S, ask
from tests.http.support.documents import finish_document
from tests.support.polling import until
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from tests.http.conftest import Api, Client, ClientMaker, Tenant
    from tests.support.servers.model_server import ScriptedModels

QUESTION = {"content": "What do kettles boil?", "stream": False}


@pytest.fixture
async def limited(make_client: ClientMaker, scripted_models: ScriptedModels) -> Client:
    """A client of an application that answers four questions at once, two of them for one key."""
    return await make_client(openai_base_url=scripted_models.url, chat_model="scripted", max_runs=4, max_runs_per_key=2)


async def make_asker(client: Client, name: str) -> Tenant:
    """Return a workspace with a ready document."""
    tenant = await make_tenant(client, operator_of(client), name)
    document = await tenant.upload()
    await finish_document(client.app[RESOURCES], tenant.uuid, parse_id("doc", document["id"]))
    return tenant


async def ask_and_leave(api: Api, models: ScriptedModels) -> Pause:
    """Ask a question in a new session and disconnect once the model answers; return its pause."""
    models.chat.script(pause := Pause(after_deltas=1))
    async with ask(api, await new_session(api)) as stream:
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        stream.response.close()
    return pause


async def new_session(api: Api) -> dict[str, Any]:
    """Create a chat session."""
    created: dict[str, Any] = (await api.post("/v1/chat/sessions")).json
    return created


async def question_in_new_session(api: Api) -> Any:
    """Ask a question in a new session and return the response."""
    session = await new_session(api)
    return await api.post(f"/v1/chat/sessions/{session['id']}/messages", QUESTION)


async def test_runs_count_until_they_end_even_if_nobody_reads_them(
    limited: Client, scripted_models: ScriptedModels
) -> None:
    asker = await make_asker(limited, "asker")
    pauses = [await ask_and_leave(asker.api, scripted_models) for _ in range(2)]
    refused = await question_in_new_session(asker.api)
    assert refused.is_problem(429, "too_many_runs")
    assert int(refused.headers["Retry-After"]) > 0
    assert (await asker.api.get("/v1/chat/runs?status=running")).json["data"][2:] == []
    for pause in pauses:
        pause.resumed.set()

    async def is_idle() -> bool:
        return not len(limited.app[RUNS].owner)

    assert await until(is_idle)
    assert (await question_in_new_session(asker.api)).status == 200


async def test_one_workspace_leaves_runs_for_others_however_many_keys_it_has(
    limited: Client, scripted_models: ScriptedModels
) -> None:
    greedy = await make_asker(limited, "greedy")
    other = await make_asker(limited, "other")
    second = (await operator_of(limited).post(f"/v1/workspaces/{greedy.id}/keys", {"name": "second"})).json["key"]
    apis = [greedy.api, type(greedy.api)(limited, second)]
    pauses = [await ask_and_leave(api, scripted_models) for api in (apis[0], apis[1], apis[0])]
    assert (await question_in_new_session(apis[1])).is_problem(429, "too_many_runs")
    assert (await question_in_new_session(other.api)).status == 200
    for pause in pauses:
        pause.resumed.set()


async def test_a_question_that_is_refused_gives_its_permit_back(limited: Client) -> None:
    asker = await make_asker(limited, "asker")
    missing = "chat_" + "0" * 32
    for _ in range(3):
        response = await asker.api.post(f"/v1/chat/sessions/{missing}/messages", QUESTION)
        assert response.is_problem(404, "not_found")
    assert (await question_in_new_session(asker.api)).status == 200


async def test_a_session_can_only_name_an_allowed_model(
    make_client: ClientMaker, scripted_models: ScriptedModels
) -> None:
    client = await make_client(
        openai_base_url=scripted_models.url, chat_model="scripted", chat_models="other", model_aliases="gpt-4o:other"
    )
    asker = await make_asker(client, "asker")
    refused = await asker.api.post("/v1/chat/sessions", {"model": "expensive"})
    assert refused.is_problem(422, "invalid_request")
    assert refused.json["errors"][0]["field"] == "model"
    session = (await asker.api.post("/v1/chat/sessions", {"model": "gpt-4o"})).json
    path = f"/v1/chat/sessions/{session['id']}"
    assert (await asker.api.patch(path, {"model": "expensive"})).is_problem(422, "invalid_request")
    answer = await asker.api.post(f"{path}/messages", QUESTION)
    assert answer.json["message"]["model"] == scripted_models.chat.requests[-1]["model"] == "other"
    await _name_model(client, asker, session["id"], "no longer allowed")
    asked = len(scripted_models.chat.requests)
    assert (await asker.api.post(f"{path}/messages", QUESTION)).is_problem(422, "invalid_request")
    assert len(scripted_models.chat.requests) == asked


async def _name_model(client: Client, tenant: Tenant, session_id: str, model: str) -> None:
    async with client.app[RESOURCES].scoped_to(tenant.uuid).pool.acquire() as conn:
        session = await chat_sessions.select_session(conn, tenant.uuid, parse_id("chat", session_id))
        assert session is not None
        await chat_sessions.update_session(conn, replace(session, model=model))
