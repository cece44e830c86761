"""All settings of the service, read once from the environment into one frozen object."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ragsvc.errors.base import StartupRefused
from ragsvc.settings.groups.answering import AnsweringGroup
from ragsvc.settings.groups.api import ADMIN, ApiGroup
from ragsvc.settings.groups.base import MIB, Group
from ragsvc.settings.groups.ingestion import IngestionGroup
from ragsvc.settings.groups.jobs import JobGroup
from ragsvc.settings.groups.llm import LlmGroup
from ragsvc.settings.groups.stores import StoreGroup
from ragsvc.settings.groups.telemetry import TelemetryGroup

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# S3's limit on the number of parts in a multipart upload.
MOST_PARTS = 10_000
# Redis Cluster hashes only the text between the first `{` and the next `}` of a key, unless that text is empty.
HASH_TAG = re.compile(r"^[^{]*\{[^}]+\}")


ADMIN_KEY_ENTRY = re.compile(r"[A-Za-z0-9_.@-]{1,64}\s*:\s*\S+")


class Settings(BaseModel):
    """The validated settings, in groups. The groups are not part of the variable names: `api.port` is `PORT`."""

    model_config = ConfigDict(frozen=True)

    stores: StoreGroup
    llm: LlmGroup
    api: ApiGroup
    jobs: JobGroup
    ingestion: IngestionGroup
    answering: AnsweringGroup
    telemetry: TelemetryGroup

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Return settings with the values given by field name; all others come from the environment.

        Raises:
            StartupRefused: a value is missing or invalid; the message names the setting and the reason.
        """
        groups: dict[str, Group] = {}
        problems: list[Any] = []
        for name, group in GROUPS.items():
            try:
                groups[name] = group(**{key: value for key, value in values.items() if key in group.model_fields})
            except ValidationError as error:
                problems += error.errors()
        if not problems:
            try:
                return cls.model_validate(groups)
            except ValidationError as error:
                problems += error.errors()
        raise StartupRefused("; ".join(_explain(problem) for problem in problems))

    def changed(self, changes: Mapping[str, object]) -> Self:
        """Return a copy with the values given by field name, without validating them.

        Raises:
            KeyError: there is no such setting.
        """
        by_group: dict[str, dict[str, object]] = {}
        for name, value in changes.items():
            by_group.setdefault(GROUP_OF[name], {})[name] = value
        update = {name: getattr(self, name).model_copy(update=values) for name, values in by_group.items()}
        return self.model_copy(update=update)

    def flat(self) -> dict[str, Any]:
        """Return all values by field name."""
        return {name: getattr(getattr(self, group), name) for name, group in GROUP_OF.items()}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.ingestion.chunk_max_tokens > self.llm.embedding_max_input_tokens:
            raise ValueError(
                f"CHUNK_MAX_TOKENS is {self.ingestion.chunk_max_tokens}, but {self.llm.embedding_model} takes at"
                f" most {self.llm.embedding_max_input_tokens} tokens (EMBEDDING_MAX_INPUT_TOKENS): longer chunks would"
                " be truncated"
            )
        if self.ingestion.chunk_overlap_tokens >= self.ingestion.chunk_max_tokens:
            raise ValueError("CHUNK_OVERLAP_TOKENS must be smaller than CHUNK_MAX_TOKENS")
        if unknown := sorted(set(self.llm.chat_aliases.values()) - self.llm.allowed_chat_models):
            raise ValueError(
                f"MODEL_ALIASES names {', '.join(repr(name) for name in unknown)}, which is neither CHAT_MODEL nor one"
                " of CHAT_MODELS"
            )
        if (self.stores.s3_access_key_id is None) != (self.stores.s3_secret_access_key is None):
            raise ValueError("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY must be set together")
        if self.stores.s3_sse_kms_key_id is not None and self.stores.s3_sse != "aws:kms":
            raise ValueError("S3_SSE_KMS_KEY_ID requires S3_SSE=aws:kms")
        if urlsplit(self.stores.database_url.get_secret_value()).scheme not in {"postgres", "postgresql"}:
            raise ValueError("DATABASE_URL must start with postgresql://")
        return self

    @model_validator(mode="after")
    def _check_admin_keys(self) -> Self:
        # No message may contain the value.
        listed = self.api.admin_api_keys.get_secret_value() if self.api.admin_api_keys else ""
        entries = [entry.strip() for entry in listed.split(",") if entry.strip()]
        if not all(ADMIN_KEY_ENTRY.fullmatch(entry) for entry in entries):
            raise ValueError("ADMIN_API_KEYS must be like anna:KEY,ben:KEY; names have only letters, digits and _.@-")
        names = [entry.partition(":")[0].strip() for entry in entries]
        if len({*names, ADMIN}) != len(names) + 1:
            raise ValueError(f"ADMIN_API_KEYS has a name twice, or the name {ADMIN}, which belongs to ADMIN_API_KEY")
        if len(set(self.api.admin_keys.values())) != len(self.api.admin_keys):
            raise ValueError("ADMIN_API_KEYS and ADMIN_API_KEY must all be different")
        return self

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        part_bytes = max(self.api.upload_part_size_bytes, -(-self.api.max_upload_bytes // (MOST_PARTS * MIB)) * MIB)
        if part_bytes > self.api.upload_buffer_bytes:
            raise ValueError(
                f"UPLOAD_BUFFER_BYTES is {self.api.upload_buffer_bytes}, but a part can be {part_bytes} bytes"
                " (from UPLOAD_PART_SIZE_BYTES, or MAX_UPLOAD_BYTES in 10,000 parts)"
            )
        return self

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        url = urlsplit(self.stores.redis_url.get_secret_value())
        if not self.stores.redis_cluster:
            if "," in url.netloc.rpartition("@")[2]:
                raise ValueError("REDIS_URL has several nodes, which requires REDIS_CLUSTER=true")
            return self
        if not HASH_TAG.search(self.stores.queue_prefix):
            raise ValueError(
                f"REDIS_CLUSTER=true requires a hash tag in QUEUE_PREFIX so that all keys are on one node: set"
                f" QUEUE_PREFIX={{{self.stores.queue_prefix.strip('{}')}}} instead of {self.stores.queue_prefix}"
            )
        if url.path.strip("/") not in {"", "0"}:
            raise ValueError("REDIS_CLUSTER=true requires database 0 in REDIS_URL: a cluster has no other")
        return self


GROUPS = {name: cast("type[Group]", field.annotation) for name, field in Settings.model_fields.items()}
GROUP_OF = {name: group for group, fields in GROUPS.items() for name in fields.model_fields}
FIELDS: Mapping[str, FieldInfo] = {
    name: field for group in GROUPS.values() for name, field in group.model_fields.items()
}


def load_settings() -> Settings:
    """Return the settings from this process's environment.

    Raises:
        StartupRefused: a value is missing or invalid; the message names the setting and the reason.
    """
    return Settings.of({})


def _explain(problem: Mapping[str, object]) -> str:
    location = problem["loc"]
    name = str(location[-1]).upper() if isinstance(location, tuple) and location else ""
    if problem["type"] == "missing":
        return f"{name} is not set"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}, got {problem['input']!r}" if name else message
