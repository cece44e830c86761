"""Writes chunks into one framework's pgvector store and prints the seconds it took: `peer.py NAME URL CHUNKS`.

It runs in a Python environment with the frameworks but without ragsvc. The store has the framework's defaults and no
vector index; only the writes are timed.
"""

# The frameworks are not installed in this project's environment.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

BATCH = 2000
TABLE = "peer_chunks"


async def llama_index(url: str, texts: list[str], vectors: list[list[float]]) -> float:
    """llama-index's PGVectorStore, through its async API."""
    from llama_index.core.schema import TextNode  # noqa: PLC0415
    from llama_index.vector_stores.postgres import PGVectorStore  # noqa: PLC0415

    parts = urlsplit(url)
    store = PGVectorStore.from_params(
        host=parts.hostname,
        port=str(parts.port),
        database=parts.path.lstrip("/"),
        user=parts.username,
        password=parts.password or "",
        table_name=TABLE,
        embed_dim=len(vectors[0]),
        use_jsonb=True,
    )
    nodes = [
        TextNode(id_=str(uuid.uuid4()), text=text, metadata={"document": index // 10}, embedding=vectors[index])
        for index, text in enumerate(texts)
    ]
    begun = time.perf_counter()
    for start in range(0, len(nodes), BATCH):
        await store.async_add(nodes[start : start + BATCH])
    return time.perf_counter() - begun


async def haystack(url: str, texts: list[str], vectors: list[list[float]]) -> float:
    """haystack's PgvectorDocumentStore, through its async API."""
    from haystack import Document  # noqa: PLC0415
    from haystack.document_stores.types import DuplicatePolicy  # noqa: PLC0415
    from haystack.utils import Secret  # noqa: PLC0415
    from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore  # noqa: PLC0415

    store = PgvectorDocumentStore(
        connection_string=Secret.from_token(url),
        table_name=TABLE,
        embedding_dimension=len(vectors[0]),
        recreate_table=True,
        search_strategy="exact_nearest_neighbor",
    )
    made = [
        Document(id=str(index), content=text, meta={"document": index // 10}, embedding=vectors[index])
        for index, text in enumerate(texts)
    ]
    begun = time.perf_counter()
    for start in range(0, len(made), BATCH):
        await store.write_documents_async(made[start : start + BATCH], policy=DuplicatePolicy.OVERWRITE)
    return time.perf_counter() - begun


async def langchain(url: str, texts: list[str], vectors: list[list[float]]) -> float:
    """langchain-postgres' PGVectorStore, through its async API."""
    from langchain_core.embeddings import Embeddings  # noqa: PLC0415
    from langchain_postgres import PGEngine, PGVectorStore  # noqa: PLC0415

    class Known(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise NotImplementedError

        def embed_query(self, text: str) -> list[float]:  # noqa: ARG002
            return vectors[0]

    engine = PGEngine.from_connection_string(url.replace("postgresql://", "postgresql+asyncpg://"))
    await engine.ainit_vectorstore_table(TABLE, len(vectors[0]))
    store: Any = await PGVectorStore.create(engine, Known(), TABLE)
    ids = [str(uuid.uuid4()) for _ in texts]
    metadata = [{"document": index // 10} for index in range(len(texts))]
    begun = time.perf_counter()
    for start in range(0, len(texts), BATCH):
        part = slice(start, start + BATCH)
        await store.aadd_embeddings(texts[part], vectors[part], metadata[part], ids[part])
    return time.perf_counter() - begun


async def main(name: str, url: str, chunks: Path) -> None:
    """Print the seconds."""
    stored = np.load(chunks)
    write = {"llama-index": llama_index, "haystack": haystack, "langchain": langchain}[name]
    print(await write(url, stored["texts"].tolist(), stored["vectors"].tolist()))  # noqa: T201 - the result


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
