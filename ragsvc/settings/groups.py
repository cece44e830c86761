"""The groups of settings; a field's name in upper case is its environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ragsvc.settings.secret_files import SecretFiles

KIB = 1024
MIB = 1024 * KIB

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
SizeBytes = Annotated[int, Field(ge=1)]


class Group(BaseSettings):
    """Settings that belong together, read from the environment; a secret may come from a file."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env file is read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - SecretFiles reads them
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from, the first that knows a value first."""
        return init_settings, env_settings, SecretFiles(settings_cls)


class StoreGroup(Group):
    """Postgres, Redis and the object store."""

    database_url: SecretStr = Field(description="Postgres 16 or newer with pgvector 0.8.4 or newer.")
    migration_database_url: SecretStr | None = Field(
        None, description="A direct connection for `ragsvc migrate`; `DATABASE_URL` when unset."
    )
    database_pool_size: Count = Field(
        10, description="Connections per API process; workers size theirs by concurrency."
    )
    database_statement_cache: bool = Field(
        default=True, description="Off behind a transaction pooler that cannot keep prepared statements."
    )
    redis_url: SecretStr = Field(description="Redis 6.2 or newer; a doorbell that may be emptied at any time.")
    redis_cluster: bool = Field(
        default=False, description="`REDIS_URL` is a Redis Cluster; `QUEUE_PREFIX` then has a hash tag, as in `{rag}`."
    )
    queue_prefix: str = Field("ragsvc", pattern=r"^[A-Za-z0-9_.{}-]{1,64}$", description="Begins every Redis key.")
    s3_endpoint_url: str | None = Field(None, description="The object store's endpoint; AWS when unset.")
    s3_access_key_id: str | None = Field(None, description="Access key; the default credential chain when unset.")
    s3_secret_access_key: SecretStr | None = Field(None, description="Secret key, together with the access key.")
    s3_region: str = Field("us-east-1", description="Region that signs requests.")
    s3_timeout_s: Seconds = Field(30.0, description="Longest wait for the store's next byte; it is asked four times.")
    s3_public_endpoint_url: str | None = Field(
        None, description="Endpoint that presigned URLs name; `S3_ENDPOINT_URL` when unset."
    )
    s3_addressing_style: Literal["path", "virtual", "auto"] = Field("path", description="How a bucket is addressed.")
    s3_bucket_prefix: str = Field(
        "ragsvc", pattern=r"^[a-z0-9][a-z0-9-]{1,28}$", description="A workspace's bucket is `{prefix}-{uuid hex}`."
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = Field(
        None, description="How the store encrypts objects; its own default when unset."
    )
    s3_sse_kms_key_id: str | None = Field(None, description="The key for `aws:kms`; the account's own when unset.")
    s3_bucket_mode: Literal["workspace", "shared"] = Field(
        "workspace",
        description="`shared`: new workspaces get a prefix in the one bucket `{S3_BUCKET_PREFIX}` instead.",
    )

    @property
    def migration_dsn(self) -> str:
        """The DSN that `ragsvc migrate` connects with."""
        return (self.migration_database_url or self.database_url).get_secret_value()


class LlmGroup(Group):
    """The models: chat, embeddings, reranking."""

    openai_base_url: str = Field("https://api.openai.com/v1", description="Any OpenAI-compatible server.")
    openai_api_key: SecretStr | None = Field(None, description="Key for that server, if it needs one.")
    chat_model: str = Field("gpt-4o-mini", description="Model that answers.")
    embedding_model: str = Field("text-embedding-3-small", description="Model that embeds chunks and queries.")
    embedding_dimensions: Annotated[int, Field(ge=1, le=4000)] = Field(1536, description="Length of its vectors.")
    embedding_revision: Annotated[int, Field(ge=1)] = Field(
        1, description="Raise it when the provider changes the model behind the same name."
    )
    embedding_tokenizer: str = Field(
        "text-embedding-3-small",
        description="What counts tokens: a tiktoken model name, or the path of a Hugging Face `tokenizer.json`.",
    )
    embedding_max_input_tokens: Count = Field(8191, description="What the embedding model takes at most.")
    embedding_batch_size: Annotated[int, Field(ge=1, le=2048)] = Field(128, description="Texts per embedding call.")
    embedding_concurrency: Count = Field(4, description="Embedding calls in flight per document.")
    embedding_requests_per_minute: Count | None = Field(
        None, description="Embedding calls of the whole fleet; queries go first. Unset: no limit."
    )
    embedding_tokens_per_minute: Count | None = Field(
        None, description="Tokens that the whole fleet has embedded; queries go first. Unset: no limit."
    )
    embedding_cache_scope: Literal["global", "workspace"] = Field(
        "global", description="Whether identical chunks share a vector across workspaces."
    )
    embedding_cache_days: Count = Field(90, description="A cached vector is dropped after so many days unused.")
    superseded_text_days: Count = Field(
        30,
        description="How many days the text of a superseded version can be read; one that a chat message cites stays.",
    )
    model_timeout_s: Seconds = Field(
        60.0, description="Longest wait for a model's next byte; in an answer, for its next words."
    )
    rerank_base_url: str | None = Field(
        None, description="A reranker's server, which puts the hits of hybrid searches in order; unset: none does."
    )
    rerank_model: str | None = Field(None, description="Its model, where the server has to be told.")
    rerank_wire: Literal["cohere", "tei"] = Field(
        "cohere", description="What it speaks: Cohere's `/rerank` as Jina, vLLM and others do, or Hugging Face's TEI."
    )
    rerank_api_key: SecretStr | None = Field(None, description="Key for that server, if it needs one.")
    rerank_timeout_s: Seconds = Field(2.0, description="Longest wait for it; then hits stay in the search's order.")


class ApiGroup(Group):
    """The API process, its limits, and uploads."""

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="Port of the API.")
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^\s?#/]$")] | None = Field(
        None, description="URL under which clients reach the API; as the request says when unset."
    )
    admin_api_key: SecretStr | None = Field(None, description="Opens `/v1/admin` and `/v1/workspaces`.")
    cors_allowed_origins: str = Field(
        "",
        pattern=r"^\s*((\*|https?://[^\s,/]+)\s*(,\s*(\*|https?://[^\s,/]+)\s*)*)?$",
        description="Origins whose pages may call the API, comma separated; `*` for all.",
    )
    allowed_hosts: str = Field(
        "",
        pattern=r"^\s*((\*\.)?[a-z0-9.-]+|[0-9a-f]*:[0-9a-f:]+)?(\s*,\s*((\*\.)?[a-z0-9.-]+|[0-9a-f]*:[0-9a-f:]+))*\s*$",
        description="Hosts that are answered, comma separated, as in `api.example.com,*.example.org`; any when unset.",
    )
    webhook_allowed_origins: str = Field(
        "",
        pattern=r"^\s*(https?://[^\s,/]+\s*(,\s*https?://[^\s,/]+\s*)*)?$",
        description="Origins that webhooks may be sent to, comma separated; without any there are no webhooks.",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of `/metrics`; when unset the API tells it on `PORT`, and workers do not."
    )
    api_grace_s: Seconds = Field(25.0, description="Time that SIGTERM leaves to requests in flight.")
    rate_limit_rps: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        50.0, description="Requests a second that a key may make in the long run; 0: no limit."
    )
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        200, description="Requests that a key which has been idle may make at once."
    )
    max_requests: Count = Field(
        256,
        description="Requests that an API process works on at once; open streams and files on their way not counted.",
    )
    max_connections: Count = Field(4000, description="Connections that an API process serves at once.")
    request_timeout_s: Seconds = Field(
        300.0, description="Longest work on one request; streams and files on their way may last."
    )
    client_timeout_s: Seconds = Field(
        30.0, description="Longest wait for a request's head or JSON body, and for a file or a reader to get anywhere."
    )
    max_json_body_bytes: SizeBytes = Field(MIB, description="Largest JSON body.")
    max_document_bytes: SizeBytes = Field(512 * MIB, description="Largest file in one request.")
    workspace_quota_bytes: SizeBytes | None = Field(
        None, description="Storage a new workspace may use; unset: no limit."
    )
    max_streams: Count = Field(2000, description="Open event streams per API process.")
    max_streams_per_key: Count = Field(500, description="Open event streams per key and API process.")
    upload_part_size_bytes: Annotated[int, Field(ge=5 * MIB)] = Field(
        8 * MIB, description="Part size towards the store."
    )
    upload_buffer_bytes: Annotated[int, Field(ge=5 * MIB)] = Field(
        256 * MIB,
        description="Parts in memory on their way to the store, per process; then clients wait their turn.",
    )
    max_upload_bytes: SizeBytes = Field(5 * 1024 * MIB, description="Largest file in an upload session.")
    upload_expires_s: Seconds = Field(86400.0, description="An upload nobody finished is removed after this.")
    orphan_ttl_s: Seconds = Field(
        86400.0, description="What no row knows in the store is removed after this; a bucket is looked at as often."
    )

    @property
    def cors_origins(self) -> frozenset[str]:
        """The origins whose pages may call the API."""
        return _split(self.cors_allowed_origins)

    @property
    def hosts(self) -> frozenset[str]:
        """The `Host` values that are served; any if empty."""
        return _split(self.allowed_hosts)

    @property
    def webhook_origins(self) -> frozenset[str]:
        """The origins that webhooks may be sent to."""
        return _split(self.webhook_allowed_origins)


class JobGroup(Group):
    """Workers: concurrency, leases, retries."""

    ingestion_concurrency: Count = Field(4, description="Ingestion jobs at once per worker process.")
    deletion_concurrency: Count = Field(4, description="Deletion jobs at once per worker process.")
    job_lease_s: Seconds = Field(
        30.0, description="A silent worker's job is taken over after this; renewed at a third."
    )
    job_timeout_s: Seconds = Field(1800.0, description="Longest time in which an attempt makes no progress.")
    sweep_interval_s: Seconds = Field(5.0, description="How often lost jobs are looked for.")
    max_attempts: Count = Field(8, description="Charged attempts before a job is dead.")
    backoff_base_s: Seconds = Field(1.0, description="Upper bound of the first retry's random delay; doubles.")
    backoff_cap_s: Seconds = Field(300.0, description="Upper bound of any retry's delay.")
    outage_max_age_s: Seconds = Field(21600.0, description="How long an unreachable provider charges no attempt.")
    worker_alive_file: Path | None = Field(
        None, description="Touched by a worker's loop, looked at by `ragsvc worker-alive`; each worker needs its own."
    )
    worker_grace_s: Seconds = Field(25.0, description="Time that SIGTERM leaves a worker to give its jobs back.")


class IngestionGroup(Group):
    """Chunking, and the limits of parsing."""

    chunk_partitions: Annotated[int, Field(ge=1, le=256)] = Field(
        16, description="Hash partitions of the chunk tables, fixed by the first migration."
    )
    chunk_max_tokens: Annotated[int, Field(ge=16, le=4096)] = Field(512, description="Tokens per chunk, by default.")
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=2048)] = Field(64, description="Tokens shared by neighbours.")
    chunk_context: Literal["none", "headings"] = Field(
        "headings",
        description="`headings`: a chunk is embedded with the headings above it; its text stays exact.",
    )
    max_pages: Count = Field(20_000, description="Pages or slides of one document.")
    max_cells: Count = Field(5_000_000, description="Cells of one spreadsheet or table.")
    max_text_chars: Count = Field(50_000_000, description="Characters of one document's text.")
    max_expanded_bytes: SizeBytes = Field(512 * MIB, description="Expanded size of one zipped document.")
    max_chunks: Count = Field(200_000, description="Chunks of one document.")
    parse_timeout_s: Seconds = Field(600.0, description="Longest parse of one document.")
    parse_memory_bytes: SizeBytes = Field(2048 * MIB, description="Address space of a parsing process.")


class AnsweringGroup(Group):
    """Search and chat."""

    text_search_config: str = Field(
        "english", pattern=r"^[a-z_]{1,63}$", description="Postgres text-search configuration."
    )
    dense_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the cosine in hybrid mode.")
    lexical_weight: Annotated[float, Field(ge=0)] = Field(
        0.65, description="Weight of the lexical score, how much of the query's words is said, in hybrid mode."
    )
    abstain_min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None,
        description="Chat abstains below this best cosine; unset: only when nothing is found.",
    )
    citation_support_min: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6, description="Support a citation's quote needs to count as verified."
    )
    chat_context_tokens: Count = Field(
        8000, description="Tokens of one prompt: instructions, history, sources and question."
    )
    chat_tokenizer: str | None = Field(
        None, description="What counts them, named like `EMBEDDING_TOKENIZER`; that one when unset."
    )
    chat_condense_questions: bool = Field(
        default=True,
        description="Whether the model makes a follow-up question one that is understood alone, to search for it.",
    )
    chat_history_messages: Annotated[int, Field(ge=0)] = Field(6, description="Earlier messages shown to the model.")
    chat_on_disconnect: Literal["continue", "cancel"] = Field(
        "continue", description="What a client's leaving does to its run."
    )
    run_lease_s: Seconds = Field(15.0, description="A run whose owner is silent this long is interrupted.")


class TelemetryGroup(Group):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe event logged.")
    otel_traces_exporter: Literal["none", "otlp", "console"] = Field(
        "none", description="Where traces go, with the extra `ragsvc[otel]`; the SDK reads its other variables."
    )
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or text for people.")


def _split(listed: str) -> frozenset[str]:
    return frozenset(stripped for part in listed.split(",") if (stripped := part.strip()))
