"""Counts the tokens of prompts for the chat model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ragsvc.llm.token_counting import load_counter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ragsvc.domain.search import SearchHit
    from ragsvc.llm.chat import ChatTurn
    from ragsvc.llm.token_counting import TokenCounter
    from ragsvc.settings.settings import Settings

# Tokens that a chat template adds to each turn: its role and delimiters.
TOKENS_PER_TURN = 4
MAX_CACHED_CHARS = 2000


@dataclass(frozen=True, slots=True)
class TokenMeter:
    """Counts with the configured tokenizer; reuses the counts from ingestion if those used the same tokenizer."""

    counter: TokenCounter
    is_embedding_tokenizer: bool

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return _count_cached(self, text) if len(text) <= MAX_CACHED_CHARS else self.counter.count(text)

    def count_hit(self, hit: SearchHit) -> int:
        """Return the number of tokens of a chunk's text."""
        return hit.token_count if self.is_embedding_tokenizer else self.counter.count(hit.text)

    def count_turns(self, turns: Iterable[ChatTurn]) -> int:
        """Return the number of tokens of a prompt."""
        return sum(self.count(turn.content) + TOKENS_PER_TURN for turn in turns)


# Instructions and source titles recur in many prompts, and counting them delays the model call.
@lru_cache(maxsize=1024)
def _count_cached(meter: TokenMeter, text: str) -> int:
    return meter.counter.count(text)


def load_meter(settings: Settings) -> TokenMeter:
    """Return the meter for the settings; the first call reads the tokenizer file.

    Raises:
        StartupRefused: the tokenizer is unknown.
    """
    tokenizer = settings.answering.chat_tokenizer or settings.llm.embedding_tokenizer
    return TokenMeter(load_counter(tokenizer), is_embedding_tokenizer=tokenizer == settings.llm.embedding_tokenizer)
