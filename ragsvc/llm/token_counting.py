"""Counts tokens as the models do."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

from ragsvc.errors import StartupRefused

# OpenAI's models by the beginning of their name, the longest first where one begins like another.
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
    """Counts a text's tokens; `special_tokens` are what the model adds to every input."""

    special_tokens: int

    def count(self, text: str) -> int:
        """Return the tokens of the text alone."""


class HuggingFaceCounter:
    """Counts by a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        # Imported with the first such file: whoever counts as OpenAI does is spared it.
        self._tokenizer = import_module("tokenizers").Tokenizer.from_file(str(path))
        # Files of embedding models often cut and fill every input; then each text has the same count.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def count(self, text: str) -> int:
        """Return the tokens of the text alone."""
        # The fast one leaves out where each token stands, which costs a third of the time.
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])


class TiktokenCounter:
    """Counts as OpenAI's models do, with the vocabulary that comes in the package."""

    special_tokens = 0

    def __init__(self, encoding: str) -> None:
        self._count = getattr(import_module("rs_bpe.bpe").openai, encoding)().count

    def count(self, text: str) -> int:
        """Return the tokens of the text."""
        return int(self._count(text))


@lru_cache(maxsize=2)
def load_counter(tokenizer: str) -> TokenCounter:
    """Return the counter for a tokenizer: the path of a `tokenizer.json`, or an OpenAI model's name.

    Raises:
        StartupRefused: neither a readable file nor a known model.
    """
    path = Path(tokenizer)
    if path.is_file():
        try:
            return HuggingFaceCounter(path)
        except Exception as error:  # the library raises plain Exception
            raise StartupRefused(f"EMBEDDING_TOKENIZER: {tokenizer} is no tokenizer: {error}") from error
    for beginning, encoding in ENCODINGS:
        if tokenizer.startswith(beginning):
            return TiktokenCounter(encoding)
    raise StartupRefused(f"EMBEDDING_TOKENIZER: {tokenizer} is neither a file nor a model whose tokenizer is known")


def check_tokenizer(tokenizer: str, *, max_input_tokens: int) -> int:
    """Return how many tokens of text the model takes: its limit less the special tokens it adds.

    Raises:
        StartupRefused: the tokenizer cannot be loaded, or leaves no room for text.
    """
    room = max_input_tokens - load_counter(tokenizer).special_tokens
    if room < 1:
        raise StartupRefused(f"EMBEDDING_MAX_INPUT_TOKENS: {max_input_tokens} leaves no room beside special tokens")
    return room
