"""Settings of search and chat."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ragsvc.settings.groups.base import Count, Group, Seconds


class AnsweringGroup(Group):
    """Search and chat."""

    text_search_config: str = Field(
        "english", pattern=r"^[a-z_]{1,63}$", description="Postgres text search configuration for lexical search."
    )
    dense_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Weight of the cosine similarity in hybrid search."
    )
    lexical_weight: Annotated[float, Field(ge=0)] = Field(
        0.65,
        description="Weight of the lexical score (BM25, scaled to 0 to 1) in hybrid search.",
    )
    abstain_min_score: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None,
        description="Chat gives no answer if the best cosine similarity is below this. Unset: no minimum.",
    )
    citation_support_method: Literal["words", "model"] = Field(
        "words",
        description="How `support.verdict` of citations is determined: by comparing words, or by asking the chat model"
        " in one more call per answer.",
    )
    chat_context_tokens: Count = Field(
        8000, description="Maximum size of a prompt, in tokens: instructions, history, sources and question."
    )
    chat_tokenizer: str | None = Field(
        None,
        description="Tokenizer of the chat model, as for `EMBEDDING_TOKENIZER`. Unset: `EMBEDDING_TOKENIZER`.",
    )
    chat_condense_questions: bool = Field(
        default=True,
        description="Whether the chat model rewrites a follow-up question as a standalone question for retrieval.",
    )
    chat_history_messages: Annotated[int, Field(ge=0)] = Field(
        6, description="Maximum earlier messages included in the prompt."
    )
    chat_on_disconnect: Literal["continue", "cancel"] = Field(
        "continue", description="Whether a run continues or is cancelled when its client disconnects."
    )
    max_output_tokens: Count = Field(
        4096,
        description="Maximum tokens of an answer, sent to the model as `max_tokens`. If it is ignored, the answer"
        " ends after eight times as many characters.",
    )
    max_run_s: Seconds = Field(600.0, description="Longest time to generate an answer, in seconds.")
    run_lease_s: Seconds = Field(
        15.0, description="Seconds after which a run is marked as interrupted if its API process is unresponsive."
    )

    @property
    def max_answer_chars(self) -> int:
        """The longest answer in code points: more than MAX_OUTPUT_TOKENS have on average in any language."""
        return self.max_output_tokens * 8
