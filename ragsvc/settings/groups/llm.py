"""Settings of the models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from ragsvc.settings.groups.base import Count, Group, Seconds, split_list


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServerAddress:
    """A server of models and its key; `setting` is the variable that names it."""

    base_url: str
    api_key: SecretStr | None
    setting: str


class LlmGroup(Group):
    """Models for chat, embeddings and reranking."""

    openai_base_url: str = Field(
        "https://api.openai.com/v1",
        description="Base URL of an OpenAI-compatible server for chat, and by default for embeddings.",
    )
    openai_api_key: SecretStr | None = Field(
        None, description="API key for `OPENAI_BASE_URL`. Unset: requests carry no key."
    )
    chat_model: str = Field("gpt-4o-mini", description="Model that writes answers.")
    chat_models: str = Field(
        "", description="Comma-separated models that chat sessions can name, besides `CHAT_MODEL`. Unset: no others."
    )
    model_aliases: str = Field(
        "",
        description="Further names of chat models, as in `gpt-4o:qwen3,gpt-4o-mini:qwen3`: each alias before the colon,"
        " and the model after it, which must be `CHAT_MODEL` or one of `CHAT_MODELS`.",
    )
    embedding_base_url: str | None = Field(
        None, description="Base URL of an OpenAI-compatible server for embeddings. Unset: `OPENAI_BASE_URL`."
    )
    embedding_api_key: SecretStr | None = Field(
        None,
        description="API key for embeddings. Unset: `OPENAI_API_KEY`, also for another `EMBEDDING_BASE_URL`.",
    )
    embedding_model: str = Field("text-embedding-3-small", description="Model that embeds chunks and queries.")
    embedding_dimensions: Annotated[int, Field(ge=1, le=4000)] = Field(
        1536, description="Number of dimensions of the embedding vectors."
    )
    embedding_revision: Annotated[int, Field(ge=1)] = Field(
        1,
        description="Increase it when the provider changes the embedding model without renaming it.",
    )
    embedding_tokenizer: str = Field(
        "text-embedding-3-small",
        description="Tokenizer: a tiktoken model name, or the path of a Hugging Face `tokenizer.json`.",
    )
    embedding_max_input_tokens: Count = Field(8191, description="Largest input of the embedding model, in tokens.")
    embedding_batch_size: Annotated[int, Field(ge=1, le=2048)] = Field(
        128, description="Maximum texts per embedding call."
    )
    embedding_concurrency: Count = Field(4, description="Maximum concurrent embedding calls per document.")
    embedding_requests_per_minute: Count | None = Field(
        None,
        description="Maximum embedding calls per minute of all processes; queries have priority. Unset: no limit.",
    )
    embedding_tokens_per_minute: Count | None = Field(
        None,
        description="Maximum embedded tokens per minute of all processes; queries have priority. Unset: no limit.",
    )
    embedding_cache_scope: Literal["global", "workspace"] = Field(
        "global",
        description="Whether identical chunks share cached vectors across all workspaces or only within one. Shared"
        " ones count as calls and take as long for a workspace that has not embedded the text itself, so that nobody"
        " learns what others have.",
    )
    embedding_cache_days: Count = Field(90, description="Days after which an unused cached vector is removed.")
    superseded_text_days: Count = Field(
        30,
        description="Days that the text of a superseded document version remains readable."
        " A text that a chat message cites is kept longer.",
    )
    model_timeout_s: Seconds = Field(
        60.0,
        description="Longest wait for a model's next byte, or a streamed answer's next tokens, in seconds.",
    )
    rerank_base_url: str | None = Field(
        None, description="Base URL of a reranker for hybrid searches. Unset: results are not reranked."
    )
    rerank_model: str | None = Field(None, description="Model name sent to the reranker. Unset: none is sent.")
    rerank_wire: Literal["cohere", "tei"] = Field(
        "cohere",
        description="API of the reranker: `cohere` for Cohere's `/rerank` (also Jina and vLLM),"
        " `tei` for Hugging Face Text Embeddings Inference.",
    )
    rerank_api_key: SecretStr | None = Field(
        None, description="API key for `RERANK_BASE_URL`. Unset: requests carry no key."
    )
    rerank_timeout_s: Seconds = Field(
        2.0, description="Longest wait for the reranker, in seconds; after that, results keep their original order."
    )

    @property
    def chat_aliases(self) -> dict[str, str]:
        """The chat models by alias; an entry without a model has an empty one."""
        entries = (entry.partition(":") for entry in split_list(self.model_aliases))
        return {alias.strip(): model.strip() for alias, _, model in entries}

    @property
    def allowed_chat_models(self) -> frozenset[str]:
        """The names of chat models that a session can use, without aliases."""
        return split_list(self.chat_models) | {self.chat_model}

    def resolve_chat_model(self, name: str | None) -> str | None:
        """Return the model of a name or alias, and the default without one; None if it is not allowed."""
        model = self.chat_model if name is None else self.chat_aliases.get(name, name)
        return model if model in self.allowed_chat_models else None

    @property
    def embedding_server(self) -> ModelServerAddress:
        """The server of the embedding model."""
        url_is_given = self.embedding_base_url is not None
        return ModelServerAddress(
            base_url=self.embedding_base_url or self.openai_base_url,
            api_key=self.embedding_api_key or self.openai_api_key,
            setting="EMBEDDING_BASE_URL" if url_is_given else "OPENAI_BASE_URL",
        )

    @property
    def chat_server(self) -> ModelServerAddress:
        """The server of the chat model."""
        return ModelServerAddress(base_url=self.openai_base_url, api_key=self.openai_api_key, setting="OPENAI_BASE_URL")
