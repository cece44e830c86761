"""Counts tokens with the tokenizers of the models."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

from ragsvc.errors.base import StartupRefused

# Prefixes of OpenAI model names. If one starts with another, the longer one comes first.
ENCODINGS = (
    ("text-embedding-", "cl100k_base"),
    ("gpt-4o", "o200k_base"),
    ("gpt-4.", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
    ("cl100k_base", "cl100k_base"),
    ("o200k_base", "o200k_base"),
)


class TokenCounter(Protocol):
    """Counts the tokens of a text; `special_tokens` is how many the model adds to every input."""

    special_tokens: int

    def count(self, text: str) -> int:
        """Return the number of tokens of the text, without special tokens."""


class HuggingFaceCounter:
    """Counts with a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        # Imported here, since OpenAI models do not need the library.
        self._tokenizer = import_module("tokenizers").Tokenizer.from_file(str(path))
        # Published tokenizer files often truncate and pad every input, which would give all texts the same count.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def count(self, text: str) -> int:
        """Return the number of tokens of the text, without special tokens."""
        # The fast variant does not compute token offsets, which would take a third of the time.
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])


class TiktokenCounter:
    """Counts with the encodings of OpenAI's models, whose vocabulary comes with the package."""

    special_tokens = 0

    def __init__(self, encoding: str) -> None:
        self._count = getattr(import_module("rs_bpe.bpe").openai, encoding)().count

    def count(self, text: str) -> int:
        """Return the number of tokens of the text."""
        return int(self._count(text))


@lru_cache(maxsize=2)
def load_counter(tokenizer: str) -> TokenCounter:
    """Return the counter for a tokenizer: the path of a `tokenizer.json`, or an OpenAI model's name.

    Raises:
        StartupRefused: the tokenizer is neither a readable file nor a known model.
    """
    path = Path(tokenizer)
    if path.is_file():
        try:
            return HuggingFaceCounter(path)
        except Exception as error:  # the library raises plain Exception
            raise StartupRefused(f"EMBEDDING_TOKENIZER: {tokenizer} is not a tokenizer: {error}") from error
    for prefix, encoding in ENCODINGS:
        if tokenizer.startswith(prefix):
            return TiktokenCounter(encoding)
    raise StartupRefused(f"EMBEDDING_TOKENIZER: {tokenizer} is neither a file nor a known model")


def check_tokenizer(tokenizer: str, *, max_input_tokens: int) -> int:
    """Return how many tokens of text fit the model: its limit minus the special tokens that it adds.

    Raises:
        StartupRefused: the tokenizer cannot be loaded, or the limit leaves no capacity for text.
    """
    max_text_tokens = max_input_tokens - load_counter(tokenizer).special_tokens
    if max_text_tokens < 1:
        raise StartupRefused(
            f"EMBEDDING_MAX_INPUT_TOKENS: {max_input_tokens} leaves no capacity after the special tokens"
        )
    return max_text_tokens
