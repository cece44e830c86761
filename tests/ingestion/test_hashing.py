"""Hashes: the content hash and the embedding cache key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ragsvc.ingestion.hashing import content_hash, embedding_input_hash
from ragsvc.ingestion.parsing.normalisation import NORMALISATION_VERSION

if TYPE_CHECKING:
    import pytest


def test_the_content_hash_is_the_sha256_of_the_text() -> None:
    assert content_hash("naïve") == hashlib.sha256("naïve".encode()).digest()


def test_the_key_depends_on_the_normalisation_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = embedding_input_hash("text")
    monkeypatch.setattr("ragsvc.ingestion.hashing.NORMALISATION_VERSION", NORMALISATION_VERSION + 1)
    assert embedding_input_hash("text") != before


def test_version_and_input_are_length_prefixed() -> None:
    parts = (str(NORMALISATION_VERSION).encode(), b"1text")
    expected = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
    assert embedding_input_hash("1text") == expected != embedding_input_hash("text")
