"""Chat over HTTP: sessions, questions and the streams of their answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.domain.ids import format_id, new_id
from ragsvc.http.sse import STREAMS
from tests.http.support.chat import DEADLINE_S, ask
from tests.support.polling import until
from tests.support.servers.model_server import Fail, Pause, Reply

if TYPE_CHECKING:
    from tests.http.conftest import Tenant
    from tests.support.servers.model_server import ScriptedModels

# Fewer than 100, because aiohttp's client opens no more connections than that.
MANY = 90


async def test_a_session_is_created_shown_updated_and_deleted(tenant: Tenant) -> None:
    collection = (await tenant.api.get("/v1/collections")).json["data"][0]["id"]
    body = {
        "title": "A",
        "collection_ids": [collection],
        "instructions": "Be brief.",
        "model": "ragsvc-extractive-v1",
        "no_answer_text": "Ask Kim.",
    }
    created = await tenant.api.post("/v1/chat/sessions", body)
    assert created.status == 201
    session = created.json
    assert set(session) == {"id", *body, "created_at", "updated_at"}
    assert {name: session[name] for name in body} == body
    path = f"/v1/chat/sessions/{session['id']}"
    assert (await tenant.api.get(path)).json == session
    changed = (await tenant.api.patch(path, {"title": "B", "collection_ids": None})).json
    assert (changed["title"], changed["collection_ids"], changed["instructions"]) == ("B", None, "Be brief.")
    assert (await tenant.api.get("/v1/chat/sessions")).json == {"data": [changed], "next_cursor": None}
    assert (await tenant.api.delete(path)).status == 204
    assert (await tenant.api.get(path)).is_problem(404, "not_found")
    assert (await tenant.api.delete(path)).is_problem(404, "not_found")


async def test_a_session_with_an_unknown_collection_is_not_created(tenant: Tenant) -> None:
    body = {"collection_ids": [format_id("col", new_id())]}
    assert (await tenant.api.post("/v1/chat/sessions", body)).is_problem(404, "not_found")
    assert (await tenant.api.get("/v1/chat/sessions")).json["data"] == []


async def test_the_stream_of_an_answer_matches_the_contract(
    chat_tenant: Tenant, session: dict[str, Any], scripted_models: ScriptedModels
) -> None:
    scripted_models.chat_text = "Kettles boil water [1][2]."
    async with ask(chat_tenant.api, session) as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        events = await stream.rest()
    run_id = stream.response.headers["X-Run-Id"]
    assert [number for number, _name, _data in events] == list(range(1, len(events) + 1))
    assert all(data["run_id"] == run_id for _number, _name, data in events)
    names = [name for _number, name, _data in events]
    assert names[:2] == ["run.started", "retrieval.completed"]
    assert names[2:-3] == ["message.delta"] * 4
    assert names[-3:] == ["message.citation", "message.citation", "message.completed"]
    started, retrieved = events[0][2], events[1][2]
    assert set(started) == {"run_id", "message_id"}
    assert set(retrieved["sources"][0]) == {
        "n", "chunk_id", "document_id", "filename", "page_first", "heading_path", "score",
    }  # fmt: skip
    assert events[3][2] == {"run_id": run_id, "text": "boil ", "offset": 8}
    cited = [data for _number, name, data in events if name == "message.citation"]
    citation = next(data for data in cited if data["verified"])
    assert set(citation) == {
        "run_id", "n", "document_id", "filename", "version", "page_first", "heading_path", "char_start", "char_end",
        "quote", "support", "verified", "message_offset",
    }  # fmt: skip
    assert [(data["n"], data["message_offset"]) for data in cited] == [(1, 19), (2, 22)]
    assert citation["quote"] == "Kettles boil water."
    completed = events[-1][2]
    assert completed["finish_reason"] == "stop"
    assert completed["usage"] == {"prompt_tokens": 7, "completion_tokens": 4}
    message = completed["message"]
    assert set(message) == {
        "id", "session_id", "run_id", "role", "content", "citations", "sources", "status", "model", "usage",
        "finish_reason", "created_at", "redacted",
    }  # fmt: skip
    assert (message["id"], message["content"]) == (started["message_id"], "Kettles boil water [1][2].")
    assert [{"run_id": run_id, **entry} for entry in message["citations"]] == cited
    listed = (await chat_tenant.api.get(f"/v1/chat/sessions/{session['id']}/messages")).json["data"]
    assert [entry["role"] for entry in listed] == ["user", "assistant"]
    assert listed[1] == message
    assert (listed[0]["finish_reason"], listed[1]["finish_reason"]) == (None, "stop")


async def test_messages_are_listed_oldest_first_in_pages(chat_tenant: Tenant, session: dict[str, Any]) -> None:
    path = f"/v1/chat/sessions/{session['id']}/messages"
    for content in ("First?", "Second?"):
        assert (await chat_tenant.api.post(path, {"content": content, "stream": False})).status == 200
    first = (await chat_tenant.api.get(f"{path}?limit=3")).json
    assert [message["role"] for message in first["data"]] == ["user", "assistant", "user"]
    second = (await chat_tenant.api.get(f"{path}?cursor={first['next_cursor']}")).json
    assert [message["role"] for message in second["data"]] == ["assistant"]
    assert second["next_cursor"] is None


async def test_an_abstention_is_flagged(chat_tenant: Tenant, scripted_models: ScriptedModels) -> None:
    body = {"no_answer_text": "Ask Kim."}
    session = (await chat_tenant.api.post("/v1/chat/sessions", body)).json
    scripted_models.chat_text = "Ask Kim."
    path = f"/v1/chat/sessions/{session['id']}/messages"
    answer = (await chat_tenant.api.post(path, {"content": "What do kettles boil?", "stream": False})).json
    assert (answer["message"]["content"], answer["message"]["finish_reason"]) == ("Ask Kim.", "no_answer")
    run = (await chat_tenant.api.get(f"/v1/chat/runs/{answer['run_id']}")).json
    assert run["finish_reason"] == "no_answer"
    blank = await chat_tenant.api.post("/v1/chat/sessions", {"no_answer_text": " "})
    assert blank.is_problem(422, "invalid_request")


async def test_an_answer_can_be_returned_whole(chat_tenant: Tenant, session: dict[str, Any]) -> None:
    path = f"/v1/chat/sessions/{session['id']}/messages"
    response = await chat_tenant.api.post(path, {"content": "What do kettles boil?", "stream": False})
    assert response.status == 200
    assert set(response.json) == {"run_id", "message", "error"}
    assert response.json["error"] is None
    assert response.json["run_id"] == response.headers["X-Run-Id"] == response.json["message"]["run_id"]
    assert response.json["message"]["status"] == "completed"


async def test_a_message_updates_its_session_and_no_other(chat_tenant: Tenant, session: dict[str, Any]) -> None:
    other = (await chat_tenant.api.post("/v1/chat/sessions")).json
    path = f"/v1/chat/sessions/{session['id']}"
    body = {"content": "What do kettles boil?", "stream": False}
    asked = (await chat_tenant.api.post(f"{path}/messages", body)).json
    changed = (await chat_tenant.api.get(path)).json
    assert changed["updated_at"] == asked["message"]["created_at"] > session["updated_at"]
    assert (await chat_tenant.api.get(f"/v1/chat/sessions/{other['id']}")).json == other
    # A refused question is not stored as a message.
    assert (await chat_tenant.api.post(f"{path}/messages", {"content": ""})).status == 422
    assert (await chat_tenant.api.get(path)).json == changed


async def test_a_whole_answer_says_why_its_run_failed(
    chat_tenant: Tenant, session: dict[str, Any], scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Fail(400, message="no such model"))
    path, headers = f"/v1/chat/sessions/{session['id']}/messages", {"Idempotency-Key": "once"}
    body = {"content": "What do kettles boil?", "stream": False}
    responses = [await chat_tenant.api.call("POST", path, json=body, headers=headers) for _ in range(2)]
    run = (await chat_tenant.api.get(f"/v1/chat/runs/{responses[0].json['run_id']}")).json
    assert run["error"]["code"] == "chat_rejected"
    for response in responses:
        assert response.is_problem(502, "answer_failed")
        assert response.json["run_id"] == run["id"]
        assert response.json["run_error"] == run["error"]
        assert response.json["detail"] == "The chat model refused the request: no such model"


async def test_the_built_in_models_answer_with_a_checked_citation(tenant: Tenant, ready: dict[str, Any]) -> None:
    session = (await tenant.api.post("/v1/chat/sessions")).json
    path = f"/v1/chat/sessions/{session['id']}/messages"
    response = await tenant.api.post(path, {"content": "How often should I descale kettles?", "stream": False})
    message = response.json["message"]
    assert message["status"] == "completed"
    assert {source["document_id"] for source in message["sources"]} == {ready["id"]}


@pytest.mark.parametrize(
    "body",
    [{}, {"content": ""}, {"content": " \n"}, {"content": "x", "limit": 0}, {"content": "x", "stream": "no"}],
)
async def test_an_invalid_question_is_refused(
    chat_tenant: Tenant, session: dict[str, Any], body: dict[str, Any]
) -> None:
    path = f"/v1/chat/sessions/{session['id']}/messages"
    assert (await chat_tenant.api.post(path, body)).is_problem(422, "invalid_request")
    assert (await chat_tenant.api.get(path)).json["data"] == []


async def test_unknown_sessions_and_runs_are_not_found(tenant: Tenant) -> None:
    session, run = format_id("chat", new_id()), format_id("run", new_id())
    question = {"content": "x"}
    assert (await tenant.api.post(f"/v1/chat/sessions/{session}/messages", question)).is_problem(404, "not_found")
    assert (await tenant.api.get(f"/v1/chat/runs/{run}/events")).is_problem(404, "not_found")
    assert (await tenant.api.post(f"/v1/chat/runs/{run}/cancel")).is_problem(404, "not_found")


async def test_token_usage_is_counted_by_day_and_model(
    chat_tenant: Tenant, session: dict[str, Any], scripted_models: ScriptedModels, tenant: Tenant
) -> None:
    path = f"/v1/chat/sessions/{session['id']}/messages"
    response = await chat_tenant.api.post(path, {"content": "What do kettles boil?", "stream": False})
    assert response.json["message"]["usage"] == {"prompt_tokens": 7, "completion_tokens": 6}
    pause = Pause(after_deltas=2)
    scripted_models.chat.script(Reply("What do kettles boil, then?"), pause)
    async with ask(chat_tenant.api, session) as stream:
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        run_id = stream.response.headers["X-Run-Id"]
        await chat_tenant.api.post(f"/v1/chat/runs/{run_id}/cancel")
        assert (await stream.rest())[-1][1] == "run.cancelled"
    # The embedding usage of the queries may already be listed too.
    (day,) = [day for day in (await chat_tenant.api.get("/v1/usage")).json["data"] if day["operation"] == "chat"]
    assert (day["embedding_calls"], day["estimated_embedding_calls"]) == (0, 0)
    assert (day["model"], day["runs"], day["estimated_runs"]) == ("scripted", 2, 1)
    # Two calls with reported usage, and the estimate for the cancelled one.
    assert day["prompt_tokens"] > 7 + 7 + 50
    assert 6 + 5 < day["completion_tokens"] < 6 + 5 + 6
    assert (await tenant.api.get("/v1/usage")).json == {"data": []}


async def test_many_answers_stream_at_once(chat_tenant: Tenant, scripted_models: ScriptedModels) -> None:
    pause = Pause(after_deltas=2)
    scripted_models.chat.usual = pause
    streams = chat_tenant.api.client.app[STREAMS]
    before = len(streams)

    async def read_answer() -> list[tuple[int, str, dict[str, Any]]]:
        session = (await chat_tenant.api.post("/v1/chat/sessions")).json
        async with ask(chat_tenant.api, session) as stream:
            await pause.resumed.wait()
            return await stream.rest()

    responses = [asyncio.create_task(read_answer()) for _ in range(MANY)]
    await until(lambda: len(streams) == before + MANY, timeout_s=4 * DEADLINE_S, what=f"{MANY} streams")
    pause.resumed.set()
    for events in await asyncio.gather(*responses):
        assert [number for number, _name, _data in events] == list(range(1, len(events) + 1))
        assert events[-1][1] == "message.completed"
        assert events[-1][2]["message"]["content"] == scripted_models.chat_text
