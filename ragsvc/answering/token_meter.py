"""How many tokens the chat model sees."""

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

# What a chat template puts around each turn: its role and its borders.
TOKENS_PER_TURN = 4
LONGEST_REPEATED_CHARS = 2000


@dataclass(frozen=True, slots=True)
class TokenMeter:
    """Counts as the tokenizer of the settings does; chunks keep the count of their ingestion where that is the same."""

    counter: TokenCounter
    is_embedding_tokenizer: bool

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return _count_again(self, text) if len(text) <= LONGEST_REPEATED_CHARS else self.counter.count(text)

    def count_hit(self, hit: SearchHit) -> int:
        """Return the tokens of a chunk's text."""
        return hit.token_count if self.is_embedding_tokenizer else self.counter.count(hit.text)

    def count_turns(self, turns: Iterable[ChatTurn]) -> int:
        """Return the tokens of a prompt."""
        return sum(self.count(turn.content) + TOKENS_PER_TURN for turn in turns)


# The instructions and the titles of sources are the same in many prompts, and counted before a model is asked.
@lru_cache(maxsize=1024)
def _count_again(meter: TokenMeter, text: str) -> int:
    return meter.counter.count(text)


def load_meter(settings: Settings) -> TokenMeter:
    """Return the meter of the settings; the first call reads the tokenizer's file.

    Raises:
        StartupRefused: the tokenizer is unknown.
    """
    tokenizer = settings.answering.chat_tokenizer or settings.llm.embedding_tokenizer
    return TokenMeter(load_counter(tokenizer), is_embedding_tokenizer=tokenizer == settings.llm.embedding_tokenizer)
