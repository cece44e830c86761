"""Settings of Postgres, Redis and the object store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from ragsvc.settings.groups.base import Count, Group, Seconds


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
