"""Fixtures for parsing and chunking: settings, limits, a token counter and a parse function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.ingestion.parsing import registry
from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
from ragsvc.ingestion.parsing.limits import ParseLimits
from ragsvc.llm.token_counting import load_counter
from ragsvc.settings.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ragsvc.domain.chunks import ParsedText
    from ragsvc.llm.token_counting import TokenCounter

    Parse = Callable[..., ParsedText]


@pytest.fixture(scope="session")
def parse_settings(tokenizer: str) -> Settings:
    """Settings for parsing; no server listens at their URLs."""
    return Settings.of(
        {
            "database_url": "postgresql://127.0.0.1/none",
            "redis_url": "redis://127.0.0.1/0",
            "embedding_tokenizer": tokenizer,
            "embedding_max_input_tokens": 256,
            "chunk_max_tokens": 240,
            "chunk_overlap_tokens": 32,
            "ingestion_concurrency": 2,
            "parse_timeout_s": 60,
        }
    )


@pytest.fixture(scope="session")
def limits(parse_settings: Settings) -> ParseLimits:
    """The default limits."""
    return ParseLimits.from_settings(parse_settings)


@pytest.fixture(scope="session")
def counter(tokenizer: str) -> TokenCounter:
    """A token counter for MiniLM."""
    return load_counter(tokenizer)


@pytest.fixture
def parse(tmp_path: Path, limits: ParseLimits) -> Parse:
    """A function that parses bytes in this process: `parse(data, "name.pdf")`."""

    def parse(data: bytes, filename: str = "file", *, mime_type: str = "", limits: ParseLimits = limits) -> ParsedText:
        path = tmp_path / "source"
        path.write_bytes(data)
        return registry.parse(SourceFile(path=path, filename=filename, mime_type=mime_type), limits)

    return parse
