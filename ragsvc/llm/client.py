"""The process's clients of the models' servers, and what can be asked of them."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, cast

import httpx2
import openai

from ragsvc.llm.calls import CONNECT_TIMEOUT_S
from ragsvc.llm.chat import Chat
from ragsvc.llm.embeddings import Embedder
from ragsvc.llm.headers import NOT_OF_CLIENTS
from ragsvc.llm.reranking import HttpReranker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pydantic import SecretStr

    from ragsvc.domain.usage import EmbeddingUsage
    from ragsvc.llm.chat import ChatDelta, ChatTurn
    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.settings.settings import Settings

# The SDK insists on a key; servers that need none ignore it.
NO_API_KEY = "none"
# No limit, which is 0: every open answer holds a connection, and how many there are is limited where they are begun.
CONNECTIONS = httpx2.Limits(max_connections=0, max_keepalive_connections=100)


class LlmClient:
    """The embedding model and the chat model of the settings.

    What fails is a `WorkError` with a code `embedding_…` or `chat_…`: ProviderRejected `rejected` or `quota`,
    TransientFailure `unavailable` (with `retry_after_s` when the server named it), OutageFailure `unreachable`. Chat
    tells more: ProviderRejected `unauthorized`, `model_not_found`, `context_too_long` and `filtered`, TransientFailure
    `rate_limited`, `timeout` and `empty`.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        settings: Settings,
        limit: ProviderRate,
        *,
        reranker: HttpReranker | None = None,
    ) -> None:
        self.reranker = reranker
        self._embedder = Embedder(client, settings, limit)
        self._chat = Chat(client, settings)

    async def embed(self, texts: Sequence[str], *, token_count: int) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        """Return vectors of shape (len(texts), dimensions), finite, and their cost, in one call that is not repeated.

        The call waits until the fleet's rate has room for `token_count`, however long that takes; so much it cost, too,
        where the server does not tell.

        Raises:
            ProviderRejected: also with code `dimension_mismatch`.
            TransientFailure: trying again can help; also when the server gave too few vectors or unreadable ones.
            OutageFailure: nothing could be connected.
        """
        return await self._embedder.embed(texts, token_count=token_count)

    async def ping(self) -> None:
        """Ask the embedding model for a sign of life, whatever the fleet's rate allows; raises like `embed`."""
        await self._embedder.embed_at_once("ping")

    async def embed_query(self, text: str) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        """Return the vector of a query, of shape (dimensions,): remembered, tried a few times, cut where too long.

        It goes before all that waits for the fleet's rate. The second is what it cost: nothing where it is remembered,
        four characters a token where the server does not tell.

        Raises:
            WorkError: like `embed`.
        """
        return await self._embedder.embed_query(text)

    def stream_chat(self, turns: Sequence[ChatTurn], *, model: str) -> AsyncGenerator[ChatDelta, None]:
        """Return the deltas of an answer; use it under `contextlib.aclosing`, which ends the model's work.

        Until the first words a failure is tried again a few times, afterwards never.

        Raises:
            WorkError: with codes `chat_…`; an answer that is cut off or stalls is a TransientFailure.
        """
        return self._chat.stream(turns, model=model)


@asynccontextmanager
async def open_llm(settings: Settings, limit: ProviderRate) -> AsyncIterator[LlmClient]:
    """Open the clients; embedding calls keep the limit, and nothing is connected before it is used."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            _make_client(settings, base_url=settings.llm.openai_base_url, api_key=settings.llm.openai_api_key)
        )
        reranker = None
        if settings.llm.rerank_base_url is not None:
            own = _make_client(settings, base_url=settings.llm.rerank_base_url, api_key=settings.llm.rerank_api_key)
            reranker = HttpReranker(await stack.enter_async_context(own), settings)
        yield LlmClient(client, settings, limit, reranker=reranker)


def _make_client(settings: Settings, *, base_url: str, api_key: SecretStr | None) -> openai.AsyncOpenAI:
    # The SDK's own retries are off: jobs have theirs, and an answer is only asked again before its first words.
    timeout = httpx2.Timeout(settings.llm.model_timeout_s, connect=CONNECT_TIMEOUT_S)
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key.get_secret_value() if api_key else NO_API_KEY,
        max_retries=0,
        timeout=timeout,
        default_headers=cast("dict[str, str]", NOT_OF_CLIENTS),
        # The SDK's transport over aiohttp costs half of the other's time, and less memory for each open answer.
        http_client=openai.DefaultAioHttpClient(base_url=base_url, timeout=timeout, limits=CONNECTIONS),
    )
