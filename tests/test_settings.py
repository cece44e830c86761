"""Settings are read once, validated with clear messages, and fully documented."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ragsvc.errors.base import StartupRefused
from ragsvc.settings.settings import FIELDS, Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = {"DATABASE_URL": "postgresql://localhost/ragsvc", "REDIS_URL": "redis://localhost"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_two_variables_are_sufficient() -> None:
    assert load_settings().stores.queue_prefix == "ragsvc"


def test_every_setting_is_described() -> None:
    assert [name for name, field in FIELDS.items() if not field.description] == []


def test_a_refusal_of_admin_keys_does_not_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEYS", "anna:a-secret-key,ben=another-secret-key")
    with pytest.raises(StartupRefused) as refused:
        load_settings()
    assert "secret-key" not in refused.value.detail


def test_operators_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "shared")
    monkeypatch.setenv("ADMIN_API_KEYS", "anna: one:1 , ben@example.org:two")
    assert load_settings().api.admin_keys == {"admin": "shared", "anna": "one:1", "ben@example.org": "two"}


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().api.port = 1


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "")
    assert load_settings().stores.s3_endpoint_url is None


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(StartupRefused, match=f"{name} is not set"):
        load_settings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PORT": "eighty"}, "PORT: .*integer.*'eighty'"),
        ({"INGESTION_CONCURRENCY": "0"}, "INGESTION_CONCURRENCY: .*greater than or equal to 1.*'0'"),
        ({"DATABASE_URL": "mysql://localhost"}, r"DATABASE_URL must start with postgresql://"),
        ({"CHUNK_MAX_TOKENS": "512", "EMBEDDING_MAX_INPUT_TOKENS": "256"}, "longer chunks would be truncated"),
        ({"ADMIN_API_KEYS": "anna"}, "ADMIN_API_KEYS must be like anna:KEY,ben:KEY"),
        ({"ADMIN_API_KEYS": "anna:one,anna:two"}, "ADMIN_API_KEYS has a name twice"),
        ({"ADMIN_API_KEYS": "admin:one"}, "the name admin, which belongs to ADMIN_API_KEY"),
        ({"ADMIN_API_KEYS": "anna:one", "ADMIN_API_KEY": "one"}, "must all be different"),
        ({"CHUNK_OVERLAP_TOKENS": "512"}, "CHUNK_OVERLAP_TOKENS must be smaller"),
        ({"S3_ACCESS_KEY_ID": "me"}, "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY must be set together"),
        ({"S3_BUCKET_PREFIX": "No_Bucket"}, "S3_BUCKET_PREFIX: "),
        ({"CORS_ALLOWED_ORIGINS": "https://a.example, b.example"}, "CORS_ALLOWED_ORIGINS: "),
        ({"CORS_ALLOWED_ORIGINS": "https://a.example/"}, "CORS_ALLOWED_ORIGINS: "),
        ({"PUBLIC_URL": "https://a.example/"}, "PUBLIC_URL: "),
        ({"ALLOWED_HOSTS": "https://a.example"}, "ALLOWED_HOSTS: "),
        ({"ALLOWED_HOSTS": "a.example, *"}, "ALLOWED_HOSTS: "),
        (
            {"REDIS_CLUSTER": "true"},
            "REDIS_CLUSTER=true requires a hash tag .* set QUEUE_PREFIX={ragsvc} instead of ragsvc",
        ),
        ({"REDIS_CLUSTER": "true", "QUEUE_PREFIX": "{}rag"}, "REDIS_CLUSTER=true requires a hash tag"),
        ({"REDIS_CLUSTER": "true", "QUEUE_PREFIX": "}rag{"}, "REDIS_CLUSTER=true requires a hash tag"),
        (
            {"REDIS_CLUSTER": "true", "QUEUE_PREFIX": "{rag}", "REDIS_URL": "redis://one,two/1"},
            "database 0 in REDIS_URL: a cluster has no other",
        ),
        ({"REDIS_URL": "redis://one,two"}, "REDIS_URL has several nodes, which requires REDIS_CLUSTER=true"),
        ({"UPLOAD_PART_SIZE_BYTES": "20000000", "UPLOAD_BUFFER_BYTES": "16777216"}, "a part can be 20000000 bytes"),
        ({"MAX_UPLOAD_BYTES": str(10_000 * 2**28 + 1)}, f"a part can be {2**28 + 2**20} bytes"),
        ({"CHAT_ON_DISCONNECT": "shrug"}, "CHAT_ON_DISCONNECT: .*'continue' or 'cancel'"),
    ],
)
def test_an_invalid_value_is_refused_with_its_name_and_the_reason(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupRefused, match=message):
        load_settings()


def test_a_part_of_the_largest_upload_can_fill_the_whole_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_UPLOAD_BYTES", str(10_000 * 2**28))
    assert load_settings().api.upload_buffer_bytes == 2**28


@pytest.mark.parametrize("prefix", ["{rag}", "{rag}-staging", "eu-{rag}"])
def test_a_prefix_with_a_hash_tag_is_accepted_for_a_cluster(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("REDIS_CLUSTER", "true")
    monkeypatch.setenv("QUEUE_PREFIX", prefix)
    assert load_settings().stores.redis_cluster


def test_the_repr_of_the_settings_contains_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@localhost/ragsvc")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    assert "hunter2" not in repr(load_settings())


def test_no_text_form_of_the_settings_contains_any_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name.upper() for name, field in FIELDS.items() if "SecretStr" in str(field.annotation)}
    # Every setting whose name sounds secret must be a SecretStr.
    assert {name.upper() for name in FIELDS if re.search("secret|password|api_key$", name)} <= names
    for name in names:
        monkeypatch.setenv(name, "postgresql://me:hunter2@localhost/1" if "DATABASE" in name else "redis://:hunter2@x")
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "me")
    settings = load_settings()
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hunter2" not in text


def test_a_refusal_contains_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://me:hunter2@localhost/ragsvc")
    with pytest.raises(StartupRefused) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_a_secret_can_be_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret of the file\n")
    names = {name.upper() for name, field in FIELDS.items() if "SecretStr" in str(field.annotation)} - NEEDED.keys()
    names -= {"ADMIN_API_KEYS"}  # not one secret but a list
    assert names >= {"MIGRATION_DATABASE_URL", "S3_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "ADMIN_API_KEY"}
    for name in names:
        monkeypatch.setenv(f"{name}_FILE", str(secret))
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "me")
    settings = load_settings()
    assert {settings.flat()[name.lower()].get_secret_value() for name in names} == {"s3cret of the file"}


def test_a_required_secret_can_be_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in NEEDED.items():
        monkeypatch.delenv(name)
        (tmp_path / name).write_text(value)
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = load_settings()
    assert settings.stores.redis_url.get_secret_value() == NEEDED["REDIS_URL"]
    assert settings.stores.database_url.get_secret_value() == NEEDED["DATABASE_URL"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "ADMIN_API_KEY_FILE: .* cannot be read"), (" \n", "ADMIN_API_KEY_FILE: .* is empty")],
)
def test_a_missing_or_empty_secret_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("ADMIN_API_KEY_FILE", str(path))
    with pytest.raises(StartupRefused, match=message):
        load_settings()


def test_setting_both_a_secret_and_its_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "secret"))
    with pytest.raises(StartupRefused, match="REDIS_URL and REDIS_URL_FILE are both set"):
        load_settings()


def test_an_alias_of_a_model_that_is_not_allowed_is_refused() -> None:
    settings = {"chat_model": "qwen3:8b", "chat_models": "other"}
    chosen = Settings.of({**settings, "model_aliases": "gpt-4o:qwen3:8b, small:other"})
    assert chosen.llm.resolve_chat_model("gpt-4o") == chosen.llm.resolve_chat_model(None) == "qwen3:8b"
    assert chosen.llm.resolve_chat_model("unknown") is None
    with pytest.raises(StartupRefused, match="MODEL_ALIASES names 'expensive'"):
        Settings.of({**settings, "model_aliases": "gpt-4o:expensive"})
