"""The two hashes of a chunk: of its text, and of what is embedded for it."""

from __future__ import annotations

from hashlib import sha256

from ragsvc.ingestion.parsing.normalisation import NORMALISATION_VERSION


def content_hash(text: str) -> bytes:
    """Return the sha256 of the chunk's text."""
    return sha256(text.encode()).digest()


def embedding_input_hash(embedding_input: str) -> bytes:
    """Return the embedding cache's key: sha256 over (normalisation version, exact input), each with its length."""
    digest = sha256()
    for part in (str(NORMALISATION_VERSION).encode(), embedding_input.encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
