"""The client of the model servers: embeddings, chat and reranking."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, cast

import httpx2
import openai

from ragsvc.llm.calls import CONNECT_TIMEOUT_S
from ragsvc.llm.chat import Chat, ChatTurn
from ragsvc.llm.embeddings import Embedder
from ragsvc.llm.headers import OMITTED_CLIENT_HEADERS
from ragsvc.llm.reranking import HttpReranker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray
    from pydantic import SecretStr

    from ragsvc.domain.usage import EmbeddingUsage
    from ragsvc.llm.chat import ChatDelta
    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.settings.settings import Settings

# The SDK requires a key; servers that need none ignore it.
NO_API_KEY = "none"
# 0 means no limit. Every open answer uses a connection, and the number of open answers is limited where requests are
# admitted.
CONNECTIONS = httpx2.Limits(max_connections=0, max_keepalive_connections=100)


class LlmClient:
    """The embedding model and the chat model of the settings.

    Failures are WorkErrors with a code `embedding_…` or `chat_…`: ProviderRejected with `rejected`,
    TransientFailure with `unavailable` (and `retry_after_s` if the server sent it), OutageFailure with `unreachable`.
    `quota`, `unauthorized` and `model_not_found` are an OutageFailure of embeddings, since they affect all documents.
    Chat uses ProviderRejected with these codes, `context_too_long` and `filtered`, and
    TransientFailure with `rate_limited`, `timeout` and `empty`.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        settings: Settings,
        limit: ProviderRate,
        *,
        embedding_client: openai.AsyncOpenAI | None = None,
        reranker: HttpReranker | None = None,
    ) -> None:
        self.reranker = reranker
        self._embedder = Embedder(embedding_client or client, settings, limit)
        self._chat = Chat(client, settings)

    async def embed(self, texts: Sequence[str], *, token_count: int) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        """Return finite vectors of shape (len(texts), dimensions) and their token usage, from one call without retries.

        The call first waits, without a time limit, until the provider's rate allows `token_count` tokens. That count
        is also the usage if the server reports none.

        Raises:
            ProviderRejected: the request was refused, or the vectors have the wrong length (`dimension_mismatch`).
            TransientFailure: a retry can help; also if the server returned too few or unreadable vectors.
            OutageFailure: the server could not be reached.
        """
        return await self._embedder.embed(texts, token_count=token_count)

    async def wait_like_embedding(self, size: int) -> bool:
        """Wait as long as one of the last calls of `embed` with `size` texts took, to hide that vectors are cached.

        Return False at once if fewer than 32 such calls are known; the caller then makes the call.
        """
        return await self._embedder.wait_like_call(size)

    async def ping(self) -> None:
        """Check that the embedding model responds, regardless of the provider's rate; raises like `embed`."""
        await self._embedder.embed_without_waiting("ping")

    async def ping_chat(self, model: str) -> None:
        """Check that a chat model answers; raises like `stream_chat`."""
        async with aclosing(self._chat.stream([ChatTurn("user", "ping")], model=model)) as deltas:
            async for _delta in deltas:
                return

    async def embed_query(self, text: str, workspace_id: UUID) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        """Return the vector of a query, of shape (dimensions,), and its token usage.

        Vectors are cached for each workspace, failures are retried a few times, and queries that are too long are
        truncated. Queries take precedence over calls that wait for the provider's rate. A cached vector has no usage;
        if the server reports none, four characters count as a token.

        Raises:
            WorkError: as for `embed`.
        """
        return await self._embedder.embed_query(text, workspace_id)

    def stream_chat(self, turns: Sequence[ChatTurn], *, model: str) -> AsyncGenerator[ChatDelta, None]:
        """Return the deltas of an answer; use it with `contextlib.aclosing`, which stops the model on exit.

        Failures are retried a few times before the first text, and never after it.

        Raises:
            WorkError: with codes `chat_…`; an answer that is cut off or stalls is a TransientFailure.
        """
        return self._chat.stream(turns, model=model)


@asynccontextmanager
async def open_llm(settings: Settings, limit: ProviderRate) -> AsyncIterator[LlmClient]:
    """Open the clients; embedding calls respect the limit, and connections are opened on first use."""
    async with AsyncExitStack() as stack:
        chat, embeddings = settings.llm.chat_server, settings.llm.embedding_server
        client = await stack.enter_async_context(_make_client(settings, base_url=chat.base_url, api_key=chat.api_key))
        embedding_client = await stack.enter_async_context(
            _make_client(settings, base_url=embeddings.base_url, api_key=embeddings.api_key)
        )
        reranker = None
        if settings.llm.rerank_base_url is not None:
            own = _make_client(settings, base_url=settings.llm.rerank_base_url, api_key=settings.llm.rerank_api_key)
            reranker = HttpReranker(await stack.enter_async_context(own), settings)
        yield LlmClient(client, settings, limit, embedding_client=embedding_client, reranker=reranker)


def _make_client(settings: Settings, *, base_url: str, api_key: SecretStr | None) -> openai.AsyncOpenAI:
    # The SDK's retries are disabled: jobs have their own, and answers are retried only before their first text.
    timeout = httpx2.Timeout(settings.llm.model_timeout_s, connect=CONNECT_TIMEOUT_S)
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key.get_secret_value() if api_key else NO_API_KEY,
        max_retries=0,
        timeout=timeout,
        default_headers=cast("dict[str, str]", OMITTED_CLIENT_HEADERS),
        # The SDK's aiohttp transport uses half the CPU time of its httpx transport, and less memory per open answer.
        http_client=openai.DefaultAioHttpClient(base_url=base_url, timeout=timeout, limits=CONNECTIONS),
    )
