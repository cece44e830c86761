"""The groups of settings; a field's name in upper case is its environment variable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ragsvc.settings.secret_files import SecretFiles

KIB = 1024
MIB = 1024 * KIB

# The name of the operator with `ADMIN_API_KEY`.
ADMIN = "admin"

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
SizeBytes = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServerAddress:
    """A server of models and its key; `setting` is the variable that names it."""

    base_url: str
    api_key: SecretStr | None
    setting: str


class Group(BaseSettings):
    """A group of related settings, read from the environment; secrets can come from files."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - .env files are not supported
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - SecretFiles replaces this source
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings; earlier ones take precedence."""
        return init_settings, env_settings, SecretFiles(settings_cls)


class StoreGroup(Group):
    """Postgres, Redis and the object store."""

    database_url: SecretStr = Field(description="Connection URL of Postgres 16 or newer with pgvector 0.8.4 or newer.")
    migration_database_url: SecretStr | None = Field(
        None,
        description="Connection URL for `ragsvc migrate`, without a connection pooler. Unset: `DATABASE_URL`.",
    )
    database_pool_size: Count = Field(
        10, description="Maximum Postgres connections per API process. Workers size their pools by their concurrency."
    )
    database_statement_cache: bool = Field(
        default=True,
        description="Whether to cache prepared statements. Not all transaction poolers support them.",
    )
    redis_url: SecretStr = Field(
        description="Connection URL of Redis 6.2 or newer. It can be flushed at any time without data loss."
    )
    redis_cluster: bool = Field(
        default=False,
        description="Whether `REDIS_URL` is a Redis Cluster; needs a hash tag in `QUEUE_PREFIX`, such as `{rag}`.",
    )
    queue_prefix: str = Field("ragsvc", pattern=r"^[A-Za-z0-9_.{}-]{1,64}$", description="Prefix of all Redis keys.")
    s3_endpoint_url: str | None = Field(None, description="URL of the object store. Unset: AWS S3.")
    s3_access_key_id: str | None = Field(
        None, description="Access key id for the object store. Unset: the AWS default credential chain."
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, description="Secret access key; set it together with `S3_ACCESS_KEY_ID`."
    )
    s3_region: str = Field("us-east-1", description="Region used to sign requests to the object store.")
    s3_timeout_s: Seconds = Field(
        30.0,
        description="Longest wait for the object store's next byte, in seconds. Requests are tried four times.",
    )
    s3_public_endpoint_url: str | None = Field(
        None, description="Base URL of presigned URLs: the object store's URL for clients. Unset: `S3_ENDPOINT_URL`."
    )
    s3_addressing_style: Literal["path", "virtual", "auto"] = Field(
        "path", description="Whether the bucket name is part of the URL's path or its host name."
    )
    s3_bucket_prefix: str = Field(
        "ragsvc",
        pattern=r"^[a-z0-9][a-z0-9-]{1,28}$",
        description="Prefix of bucket names: the bucket of a workspace is `{prefix}-{uuid hex}`.",
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = Field(
        None, description="Server-side encryption of objects. Unset: the default of the bucket."
    )
    s3_sse_kms_key_id: str | None = Field(
        None, description="KMS key for `S3_SSE=aws:kms`. Unset: the default key of the account."
    )
    s3_bucket_mode: Literal["workspace", "shared"] = Field(
        "workspace",
        description="`workspace`: each new workspace gets a bucket. `shared`: all use the bucket `{S3_BUCKET_PREFIX}`.",
    )

    @property
    def migration_dsn(self) -> str:
        """The DSN that `ragsvc migrate` connects to."""
        return (self.migration_database_url or self.database_url).get_secret_value()


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
        entries = (entry.partition(":") for entry in _split(self.model_aliases))
        return {alias.strip(): model.strip() for alias, _, model in entries}

    @property
    def allowed_chat_models(self) -> frozenset[str]:
        """The names of chat models that a session can use, without aliases."""
        return _split(self.chat_models) | {self.chat_model}

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


class ApiGroup(Group):
    """The API process, its limits and uploads."""

    host: str = Field("127.0.0.1", description="Address that the API and the metrics server listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="Port of the API.")
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^\s?#/]$")] | None = Field(
        None, description="URL under which clients reach the API. Unset: derived from the request."
    )
    admin_api_key: SecretStr | None = Field(
        None, description="Key for `/v1/admin` and `/v1/workspaces`. Unset: these endpoints are not accessible."
    )
    admin_api_keys: SecretStr | None = Field(
        None,
        description="Keys of operators by name, besides `ADMIN_API_KEY`, as in `anna:KEY,ben:KEY`. The audit log shows"
        " the name. Names have letters, digits and `_.@-`; keys have no comma.",
    )
    cors_allowed_origins: str = Field(
        "",
        pattern=r"^\s*((\*|https?://[^\s,/]+)\s*(,\s*(\*|https?://[^\s,/]+)\s*)*)?$",
        description="Origins whose pages can call the API, separated by commas; `*` allows all. Unset: none.",
    )
    allowed_hosts: str = Field(
        "",
        pattern=r"^\s*((\*\.)?[a-z0-9.-]+|[0-9a-f]*:[0-9a-f:]+)?(\s*,\s*((\*\.)?[a-z0-9.-]+|[0-9a-f]*:[0-9a-f:]+))*\s*$",
        description="Accepted `Host` headers, separated by commas; `*.example.org` is a wildcard. Unset: all.",
    )
    webhook_allowed_origins: str = Field(
        "",
        pattern=r"^\s*(https?://[^\s,/]+\s*(,\s*https?://[^\s,/]+\s*)*)?$",
        description="Origins that webhooks can be sent to, separated by commas. Unset: webhooks cannot be created.",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of `/metrics`. Unset: the API serves it on `PORT`, and workers do not serve it."
    )
    api_grace_s: Seconds = Field(25.0, description="Seconds that requests in flight get to finish after SIGTERM.")
    rate_limit_rps: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        50.0, description="Maximum sustained requests per second for each API key. 0: no limit."
    )
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        200, description="Requests that an idle API key can make at once."
    )
    max_requests: Count = Field(
        256,
        description="Maximum concurrent requests per API process, not counting event streams and file transfers.",
    )
    max_connections: Count = Field(4000, description="Maximum concurrent client connections per API process.")
    request_timeout_s: Seconds = Field(
        300.0,
        description="Longest processing time of a request, in seconds, not counting event streams and file transfers.",
    )
    client_timeout_s: Seconds = Field(
        30.0,
        description="Longest wait for a client, in seconds: for a request's headers or JSON body,"
        " and for progress of a file transfer or event stream. A reader gets four times as long.",
    )
    max_json_body_bytes: SizeBytes = Field(MIB, description="Largest JSON body, in bytes.")
    max_document_bytes: SizeBytes = Field(512 * MIB, description="Largest file sent in one request, in bytes.")
    workspace_quota_bytes: SizeBytes | None = Field(
        None, description="Storage quota of a new workspace, in bytes. Unset: no limit."
    )
    max_streams: Count = Field(2000, description="Maximum open event streams per API process.")
    max_streams_per_key: Count = Field(500, description="Maximum open event streams per API key and API process.")
    max_runs: Count = Field(
        2000,
        description="Maximum answers that an API process generates at once, whether or not anybody reads them."
        " One workspace gets at most 75 %.",
    )
    max_runs_per_key: Count = Field(500, description="Maximum answers at once per API key and API process.")
    upload_part_size_bytes: Annotated[int, Field(ge=5 * MIB)] = Field(
        8 * MIB, description="Size of the parts that are sent to the object store, in bytes."
    )
    upload_buffer_bytes: Annotated[int, Field(ge=5 * MIB)] = Field(
        256 * MIB,
        description="Maximum memory for upload parts per API process, in bytes, and an eighth more for small files."
        " When it is used up, uploads wait, and slow ones end. One workspace gets at most 75 %.",
    )
    send_buffer_bytes: Annotated[int, Field(ge=MIB)] = Field(
        64 * MIB,
        description="Maximum memory per API process for files, texts and large responses that are being sent, in bytes."
        " One workspace gets at most 75 %; a file takes 256 KiB, a text 1 MiB.",
    )
    max_upload_bytes: SizeBytes = Field(5 * 1024 * MIB, description="Largest file in an upload session, in bytes.")
    upload_expires_s: Seconds = Field(86400.0, description="Seconds after which an unfinished upload is removed.")
    orphan_ttl_s: Seconds = Field(
        86400.0,
        description="Age at which objects without a database row are removed, in seconds;"
        " also the interval between scans of a bucket.",
    )

    @property
    def admin_keys(self) -> dict[str, str]:
        """The operators' keys by name; that of `ADMIN_API_KEY` is called `admin`."""
        keys = {ADMIN: self.admin_api_key.get_secret_value()} if self.admin_api_key else {}
        listed = self.admin_api_keys.get_secret_value() if self.admin_api_keys else ""
        entries = (entry.strip().partition(":") for entry in listed.split(",") if entry.strip())
        return keys | {name.strip(): key.strip() for name, _, key in entries}

    @property
    def cors_origins(self) -> frozenset[str]:
        """The origins whose pages can call the API."""
        return _split(self.cors_allowed_origins)

    @property
    def hosts(self) -> frozenset[str]:
        """The accepted `Host` headers; all if empty."""
        return _split(self.allowed_hosts)

    @property
    def webhook_origins(self) -> frozenset[str]:
        """The origins that webhooks can be sent to."""
        return _split(self.webhook_allowed_origins)


class JobGroup(Group):
    """Workers: concurrency, leases and retries."""

    ingestion_concurrency: Count = Field(4, description="Maximum concurrent ingestion jobs per worker process.")
    deletion_concurrency: Count = Field(4, description="Maximum concurrent deletion jobs per worker process.")
    job_lease_s: Seconds = Field(
        30.0,
        description="Seconds after which a job is taken over from an unresponsive worker."
        " Workers renew their leases three times within that period.",
    )
    job_timeout_s: Seconds = Field(1800.0, description="Longest time without progress in a job attempt, in seconds.")
    sweep_interval_s: Seconds = Field(5.0, description="Seconds between searches for lost jobs.")
    max_attempts: Count = Field(8, description="Failed attempts after which a job becomes a dead letter.")
    backoff_base_s: Seconds = Field(
        1.0,
        description="Longest delay before the first retry, in seconds; doubles with every retry. Delays are random.",
    )
    backoff_cap_s: Seconds = Field(300.0, description="Longest delay before any retry, in seconds.")
    outage_max_age_s: Seconds = Field(
        21600.0, description="Seconds for which failures caused by an unreachable provider do not count as attempts."
    )
    worker_alive_file: Path | None = Field(
        None,
        description="File that a worker touches and `ragsvc worker-alive` checks; one per worker. Unset: none.",
    )
    worker_grace_s: Seconds = Field(25.0, description="Seconds that a worker gets to hand back its jobs after SIGTERM.")


class IngestionGroup(Group):
    """Chunking and parsing limits."""

    chunk_partitions: Annotated[int, Field(ge=1, le=256)] = Field(
        16, description="Hash partitions of the chunk tables; fixed by the first migration."
    )
    chunk_max_tokens: Annotated[int, Field(ge=16, le=4096)] = Field(
        512, description="Default maximum size of a chunk, in tokens."
    )
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=2048)] = Field(
        64, description="Default overlap of adjacent chunks, in tokens."
    )
    chunk_context: Literal["none", "headings"] = Field(
        "headings",
        description="`headings`: a chunk is embedded together with the headings above it; its text is unchanged."
        " `none`: without them.",
    )
    max_pages: Count = Field(20_000, description="Maximum pages or slides per document.")
    max_cells: Count = Field(5_000_000, description="Maximum cells per spreadsheet or table.")
    max_text_chars: Count = Field(50_000_000, description="Maximum characters of text per document.")
    max_expanded_bytes: SizeBytes = Field(
        512 * MIB, description="Maximum uncompressed size of a zip-based document, in bytes."
    )
    max_chunks: Count = Field(200_000, description="Maximum chunks per document.")
    parse_timeout_s: Seconds = Field(600.0, description="Longest time to parse a document, in seconds.")
    parse_tasks_per_process: Count = Field(
        20,
        description="Tasks after which a parsing process is replaced. 1: each parse and each chunking of a document"
        " gets a process of its own, which never sees another document.",
    )
    parse_memory_bytes: SizeBytes = Field(
        2048 * MIB, description="Maximum address space of a parsing process, in bytes."
    )


class AnsweringGroup(Group):
    """Search and chat."""

    text_search_config: str = Field(
        "english", pattern=r"^[a-z_]{1,63}$", description="Postgres text search configuration for lexical search."
    )
    dense_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Weight of the cosine similarity in hybrid search."
    )
    lexical_weight: Annotated[float, Field(ge=0)] = Field(
        0.65,
        description="Weight of the lexical score (BM25, scaled to 0 to 1) in hybrid search.",
    )
    abstain_min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None,
        description="Chat gives no answer if the best cosine similarity is below this. Unset: no minimum.",
    )
    citation_support_method: Literal["words", "model"] = Field(
        "words",
        description="How `support.verdict` of citations is determined: by comparing words, or by asking the chat model"
        " in one more call per answer.",
    )
    chat_context_tokens: Count = Field(
        8000, description="Maximum size of a prompt, in tokens: instructions, history, sources and question."
    )
    chat_tokenizer: str | None = Field(
        None,
        description="Tokenizer of the chat model, as for `EMBEDDING_TOKENIZER`. Unset: `EMBEDDING_TOKENIZER`.",
    )
    chat_condense_questions: bool = Field(
        default=True,
        description="Whether the chat model rewrites a follow-up question as a standalone question for retrieval.",
    )
    chat_history_messages: Annotated[int, Field(ge=0)] = Field(
        6, description="Maximum earlier messages included in the prompt."
    )
    chat_on_disconnect: Literal["continue", "cancel"] = Field(
        "continue", description="Whether a run continues or is cancelled when its client disconnects."
    )
    max_output_tokens: Count = Field(
        4096,
        description="Maximum tokens of an answer, sent to the model as `max_tokens`. If it is ignored, the answer"
        " ends after eight times as many characters.",
    )
    max_run_s: Seconds = Field(600.0, description="Longest time to generate an answer, in seconds.")
    run_lease_s: Seconds = Field(
        15.0, description="Seconds after which a run is marked as interrupted if its API process is unresponsive."
    )

    @property
    def max_answer_chars(self) -> int:
        """The longest answer in code points: more than MAX_OUTPUT_TOKENS have on average in any language."""
        return self.max_output_tokens * 8


class TelemetryGroup(Group):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level of events that are logged."
    )
    otel_traces_exporter: Literal["none", "otlp", "console"] = Field(
        "none",
        description="Exporter of traces; requires `ragsvc[otel]`. The SDK reads its other `OTEL_*` variables.",
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`json`: one JSON object per line. `console`: human-readable text."
    )


def _split(listed: str) -> frozenset[str]:
    return frozenset(stripped for part in listed.split(",") if (stripped := part.strip()))
