"""The two hashes of a chunk: one of its text, one of its embedding input."""

from __future__ import annotations

from hashlib import sha256

from ragsvc.ingestion.parsing.normalisation import NORMALISATION_VERSION


def content_hash(text: str) -> bytes:
    """Return the SHA-256 digest of the chunk's text."""
    return sha256(text.encode()).digest()


def embedding_input_hash(embedding_input: str) -> bytes:
    """Return the embedding cache key: SHA-256 over the length-prefixed normalisation version and embedding input."""
    digest = sha256()
    for part in (str(NORMALISATION_VERSION).encode(), embedding_input.encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
