"""Settings: read once, refused with a sentence, documented in full."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ragsvc.errors import StartupRefused
from ragsvc.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {"DATABASE_URL": "postgresql://localhost/ragsvc", "REDIS_URL": "redis://localhost"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_two_variables_are_enough() -> None:
    assert load_settings().queue_prefix == "ragsvc"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_readme_lists_every_setting_with_its_default() -> None:
    table = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]*) \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    assert set(table) == {name.upper() for name in Settings.model_fields}


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "")
    assert load_settings().s3_endpoint_url is None


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
        ({"DATABASE_URL": "mysql://localhost"}, r"DATABASE_URL has to begin with postgresql://"),
        ({"CHUNK_MAX_TOKENS": "512", "EMBEDDING_MAX_INPUT_TOKENS": "256"}, "the rest would be dropped"),
        ({"CHUNK_OVERLAP_TOKENS": "512"}, "CHUNK_OVERLAP_TOKENS has to be smaller"),
        ({"S3_ACCESS_KEY_ID": "me"}, "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY go together"),
        ({"S3_BUCKET_PREFIX": "No_Bucket"}, "S3_BUCKET_PREFIX: "),
        (
            {"REDIS_CLUSTER": "true"},
            "REDIS_CLUSTER=true needs .* hash tag, .* set QUEUE_PREFIX={ragsvc} instead of ragsvc",
        ),
        ({"REDIS_CLUSTER": "true", "QUEUE_PREFIX": "{}rag"}, "REDIS_CLUSTER=true needs .* hash tag"),
        ({"REDIS_CLUSTER": "true", "QUEUE_PREFIX": "}rag{"}, "REDIS_CLUSTER=true needs .* hash tag"),
        (
            {"REDIS_CLUSTER": "true", "QUEUE_PREFIX": "{rag}", "REDIS_URL": "redis://one,two/1"},
            "database 0, the only one",
        ),
        ({"REDIS_URL": "redis://one,two"}, "REDIS_URL names several nodes, which is for REDIS_CLUSTER=true"),
        ({"CHAT_ON_DISCONNECT": "shrug"}, "CHAT_ON_DISCONNECT: .*'continue' or 'cancel'"),
    ],
)
def test_a_wrong_value_is_refused_with_which_and_why(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupRefused, match=message):
        load_settings()


@pytest.mark.parametrize("prefix", ["{rag}", "{rag}-staging", "eu-{rag}"])
def test_a_prefix_with_a_hash_tag_is_good_for_a_cluster(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("REDIS_CLUSTER", "true")
    monkeypatch.setenv("QUEUE_PREFIX", prefix)
    assert load_settings().redis_cluster


def test_no_secret_shows_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@localhost/ragsvc")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    assert "hunter2" not in repr(load_settings())


def test_no_secret_shows_in_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://me:hunter2@localhost/ragsvc")
    with pytest.raises(StartupRefused) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)
