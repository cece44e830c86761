"""Settings of the API and its limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from ragsvc.settings.groups.base import MIB, Count, Group, Seconds, SizeBytes, split_list

# The name of the operator with `ADMIN_API_KEY`.
ADMIN = "admin"


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
        return split_list(self.cors_allowed_origins)

    @property
    def hosts(self) -> frozenset[str]:
        """The accepted `Host` headers; all if empty."""
        return split_list(self.allowed_hosts)

    @property
    def webhook_origins(self) -> frozenset[str]:
        """The origins that webhooks can be sent to."""
        return split_list(self.webhook_allowed_origins)
