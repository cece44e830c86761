"""Runs over HTTP: following, resuming, cancelling, retrying and listing them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.http.support.chat import DEADLINE_S, ask, follow
from tests.support.polling import until
from tests.support.servers.model_server import Fail, Pause

if TYPE_CHECKING:
    from tests.http.conftest import ClientMaker, Tenant
    from tests.support.servers.model_server import ScriptedModels


async def test_a_failed_run_is_reported_in_the_stream_and_can_be_retried(
    chat_tenant: Tenant, session: dict[str, Any], scripted_models: ScriptedModels
) -> None:
    scripted_models.chat.script(Fail(400, message="no such model"))
    async with ask(chat_tenant.api, session) as stream:
        events = await stream.rest()
    run_id = stream.response.headers["X-Run-Id"]
    assert events[-1][1] == "run.failed"
    assert events[-1][2] == {
        "run_id": run_id,
        "code": "chat_rejected",
        "message": "The chat model refused the request: no such model",
        "retryable": False,
    }
    run = (await chat_tenant.api.get(f"/v1/chat/runs/{run_id}")).json
    assert set(run) == {
        "id", "session_id", "message_id", "status", "last_event_id", "finish_reason", "error",
        "created_at", "finished_at",
    }  # fmt: skip
    assert (run["status"], run["last_event_id"]) == ("failed", events[-1][0])
    assert set(run["error"]) == {"code", "message", "retryable"}
    again = await chat_tenant.api.post(f"/v1/chat/runs/{run_id}/retry", {"stream": False})
    assert again.json["message"]["status"] == "completed"
    assert (await chat_tenant.api.post(f"/v1/chat/runs/{run_id}/retry")).is_problem(409, "run_not_retryable")


async def test_a_stream_is_resumed_by_query_or_header(chat_tenant: Tenant, session: dict[str, Any]) -> None:
    async with ask(chat_tenant.api, session) as stream:
        events = await stream.rest()
    run_id = stream.response.headers["X-Run-Id"]
    async with follow(chat_tenant.api, run_id) as stream:
        assert await stream.rest() == events
    async with follow(chat_tenant.api, run_id, query="?after=3") as stream:
        assert await stream.rest() == events[3:]
    async with follow(chat_tenant.api, run_id, query="?after=1", **{"Last-Event-ID": "4"}) as stream:
        assert await stream.rest() == events[4:]
    async with follow(chat_tenant.api, run_id, query=f"?after={len(events)}") as stream:
        assert await stream.rest() == []
    bad = await chat_tenant.api.get(f"/v1/chat/runs/{run_id}/events", headers={"Last-Event-ID": "x"})
    assert bad.is_problem(422, "invalid_request")
    assert (await chat_tenant.api.get(f"/v1/chat/runs/{run_id}/events?after=-1")).is_problem(422, "invalid_request")


async def test_the_first_events_are_sent_before_the_model_responds_and_a_run_can_be_cancelled(
    chat_tenant: Tenant, session: dict[str, Any], scripted_models: ScriptedModels
) -> None:
    pause = Pause()
    scripted_models.chat.script(pause)
    async with ask(chat_tenant.api, session) as stream:
        assert [(await stream.next() or (0, ""))[1] for _ in range(2)] == ["run.started", "retrieval.completed"]
        run_id = stream.response.headers["X-Run-Id"]
        path = f"/v1/chat/sessions/{session['id']}/messages"
        assert (await chat_tenant.api.post(path, {"content": "Another?"})).is_problem(409, "run_active")
        assert (await chat_tenant.api.post(f"/v1/chat/runs/{run_id}/retry")).is_problem(409, "run_active")
        assert (await chat_tenant.api.post(f"/v1/chat/runs/{run_id}/cancel")).status == 202
        assert [event[1] for event in await stream.rest()] == ["run.cancelled"]
    assert (await chat_tenant.api.get(f"/v1/chat/runs/{run_id}")).json["status"] == "cancelled"


async def test_a_run_continues_when_its_client_disconnects(
    chat_tenant: Tenant, session: dict[str, Any], scripted_models: ScriptedModels
) -> None:
    pause = Pause(after_deltas=1)
    scripted_models.chat.script(pause)
    async with ask(chat_tenant.api, session) as stream:
        await stream.next()
        run_id = stream.response.headers["X-Run-Id"]
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        stream.response.close()
    pause.resumed.set()
    async with follow(chat_tenant.api, run_id) as stream:
        assert (await stream.rest())[-1][1] == "message.completed"


async def test_a_disconnect_cancels_the_run_if_so_configured(
    make_client: ClientMaker, scripted_models: ScriptedModels, chat_tenant: Tenant, session: dict[str, Any]
) -> None:
    client = await make_client(openai_base_url=scripted_models.url, chat_model="scripted", chat_on_disconnect="cancel")
    pause = Pause(after_deltas=1)
    scripted_models.chat.script(pause)
    api = type(chat_tenant.api)(client, chat_tenant.api.key)
    async with ask(api, session) as stream:
        await stream.next()
        run_id = stream.response.headers["X-Run-Id"]
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        stream.response.close()

    async def is_cancelled() -> bool:
        run = (await chat_tenant.api.get(f"/v1/chat/runs/{run_id}")).json
        return bool(run["status"] == "cancelled")

    assert await until(is_cancelled)


async def test_runs_are_listed_page_by_page_and_by_session_and_status(
    chat_tenant: Tenant, session: dict[str, Any]
) -> None:
    path = f"/v1/chat/sessions/{session['id']}/messages"
    asked = [await chat_tenant.api.post(path, {"content": "What do kettles boil?", "stream": False}) for _ in range(3)]
    elsewhere = (await chat_tenant.api.post("/v1/chat/sessions")).json["id"]
    ids = [response.json["run_id"] for response in reversed(asked)]
    first = (await chat_tenant.api.get("/v1/chat/runs?limit=2")).json
    second = (await chat_tenant.api.get(f"/v1/chat/runs?limit=2&cursor={first['next_cursor']}")).json
    assert [run["id"] for run in first["data"] + second["data"]] == ids
    assert second["next_cursor"] is None
    assert (await chat_tenant.api.get(f"/v1/chat/runs/{ids[0]}")).json == first["data"][0]
    assert [
        run["id"] for run in (await chat_tenant.api.get(f"/v1/chat/runs?session_id={session['id']}")).json["data"]
    ] == ids
    assert (await chat_tenant.api.get(f"/v1/chat/runs?session_id={elsewhere}")).json["data"] == []
    assert (await chat_tenant.api.get("/v1/chat/runs?status=failed")).json["data"] == []
    assert len((await chat_tenant.api.get("/v1/chat/runs?status=completed")).json["data"]) == 3
