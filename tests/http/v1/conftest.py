"""A tenant and a chat session of an application with a scripted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.http.contract.ids import parse_id
from ragsvc.http.state import RESOURCES
from tests.http.conftest import make_tenant, operator_of
from tests.http.support.documents import finish_document

if TYPE_CHECKING:
    from tests.http.conftest import Client, ClientMaker, Tenant
    from tests.support.servers.model_server import ScriptedModels


@pytest.fixture
async def scripted(make_client: ClientMaker, scripted_models: ScriptedModels) -> Client:
    """A client of the application with a scripted model."""
    return await make_client(openai_base_url=scripted_models.url, chat_model="scripted")


@pytest.fixture
async def chat_tenant(scripted: Client) -> Tenant:
    """A workspace with a ready document, and a client of the application with the scripted model."""
    tenant = await make_tenant(scripted, operator_of(scripted), "asker")
    document = await tenant.upload()
    await finish_document(scripted.app[RESOURCES], tenant.uuid, parse_id("doc", document["id"]))
    return tenant


@pytest.fixture
async def session(chat_tenant: Tenant) -> dict[str, Any]:
    """A chat session."""
    created: dict[str, Any] = (await chat_tenant.api.post("/v1/chat/sessions")).json
    return created
