"""Tests of counting tokens as the models do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from semantic_text_splitter import TextSplitter

from ragsvc.errors.base import StartupRefused
from ragsvc.llm.token_counting import check_tokenizer, load_counter

SAMPLES = [
    "word",
    "The quick brown fox. " * 40,
    "日本語 テキスト 😀",
    "x" * 5000,
    "1,234.56 <|endoftext|>x",
    "  a\n\n\tb",
]


def test_a_published_tokenizer_file_counts_the_whole_text(tokenizer: str) -> None:
    assert json.loads(Path(tokenizer).read_text())["truncation"]["max_length"] == 128
    assert load_counter(tokenizer).count("word " * 500) == 500
    assert check_tokenizer(tokenizer, max_input_tokens=256) == 254


@pytest.mark.parametrize("model", ["text-embedding-3-small", "text-embedding-3-large", "gpt-4o-mini"])
def test_openai_models_are_counted_as_tiktoken_does(model: str) -> None:
    counter = load_counter(model)
    for sample in SAMPLES[:4]:
        count = counter.count(sample)
        assert len(TextSplitter.from_tiktoken_model(model, count, trim=False).chunks(sample)) == 1
        if count > 1:
            assert len(TextSplitter.from_tiktoken_model(model, count - 1, trim=False).chunks(sample)) > 1
    assert all(counter.count(sample) > 0 for sample in SAMPLES)


@pytest.mark.parametrize("name", ["/no/such/tokenizer.json", "bge-m3", ""])
def test_an_unknown_tokenizer_prevents_startup(name: str) -> None:
    with pytest.raises(StartupRefused, match="EMBEDDING_TOKENIZER"):
        load_counter(name)


def test_a_file_that_is_not_a_tokenizer_prevents_startup(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(StartupRefused, match="is not a tokenizer"):
        load_counter(str(path))


def test_a_model_without_capacity_for_text_prevents_startup(tokenizer: str) -> None:
    with pytest.raises(StartupRefused, match="EMBEDDING_MAX_INPUT_TOKENS"):
        check_tokenizer(tokenizer, max_input_tokens=2)
