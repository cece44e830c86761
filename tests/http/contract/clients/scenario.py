"""Uses the client that openapi-python-client generated; arguments: URL, key, id of a ready document."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from ragsvc_client import AuthenticatedClient
from ragsvc_client.api.chat import create_chat_message, create_chat_session
from ragsvc_client.api.documents import create_document, get_document, list_documents
from ragsvc_client.api.search import search_chunks
from ragsvc_client.models import (
    Answer,
    Document,
    DocumentForm,
    DocumentPage,
    MessageDeltaData,
    Problem,
    QuestionRequest,
    SearchRequest,
    SearchResults,
    Session,
)
from ragsvc_client.types import File


def stream(client: AuthenticatedClient, session: Session) -> str:
    """Ask a question and return the streamed text."""
    # The generator has no streams, so the request is sent with the client's own transport.
    path = f"/v1/chat/sessions/{session.id}/messages"
    body = QuestionRequest(content="What do kettles boil?").to_dict()
    text, name = "", ""
    with client.get_httpx_client().stream("POST", path, json=body) as response:
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            name = value if field == "event" else name
            if field == "data" and name == "message.delta":
                text += MessageDeltaData.from_dict(json.loads(value)).text
    return text


def use(client: AuthenticatedClient, document_id: str) -> dict[str, Any]:
    """Upload, list, search, ask, stream and fail; return what was seen."""
    file = File(payload=io.BytesIO(b"Toasters toast."), file_name="toasters.txt", mime_type="text/plain")
    uploaded = create_document.sync(client=client, body=DocumentForm(file=file))
    assert isinstance(uploaded, Document)
    listed = list_documents.sync(client=client, limit=1)
    assert isinstance(listed, DocumentPage)
    assert isinstance(listed.next_cursor, str)
    rest = list_documents.sync(client=client, limit=1, cursor=listed.next_cursor)
    assert isinstance(rest, DocumentPage)
    found = search_chunks.sync(client=client, body=SearchRequest(query="kettles"))
    assert isinstance(found, SearchResults)
    session = create_chat_session.sync(client=client)
    assert isinstance(session, Session)
    answer = create_chat_message.sync(
        session.id, client=client, body=QuestionRequest(content="What do kettles boil?", stream=False)
    )
    assert isinstance(answer, Answer)
    unknown = get_document.sync("doc_" + "0" * 32, client=client)
    assert isinstance(unknown, Problem)
    shown = get_document.sync(document_id, client=client)
    assert isinstance(shown, Document)
    return {
        "uploaded": uploaded.filename,
        "listed": [document.filename for page in (listed, rest) for document in page.data],
        "found": found.data[0].filename,
        "answer": answer.message.content,
        "streamed": stream(client, session),
        "problem": unknown.code,
        "status": shown.status.value,
    }


if __name__ == "__main__":
    server_url, key, ready_id = sys.argv[1:]
    with AuthenticatedClient(base_url=server_url, token=key) as opened:
        print(json.dumps(use(opened, ready_id)))  # noqa: T201 - the test reads it
