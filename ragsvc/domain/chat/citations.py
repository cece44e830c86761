"""Sources and citations of an answer, and the verdicts on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Source:
    """A chunk given to the model, with the number by which the answer can cite it."""

    n: int
    chunk_id: UUID
    document_id: UUID
    filename: str
    page_first: int | None
    heading_path: tuple[str, ...]
    score: float

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return the instance for the stored JSON object."""
        return cls(
            **{
                **stored,
                "chunk_id": UUID(stored["chunk_id"]),
                "document_id": UUID(stored["document_id"]),
                "heading_path": tuple(stored["heading_path"]),
            }
        )

    def redacted(self) -> Self:
        """Return a copy without text of the document."""
        return replace(self, filename="", heading_path=())


class Verdict(StrEnum):
    """Whether a quote states what the answer says."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    # It could not be told, for example because the language is not calibrated.
    UNKNOWN = "unknown"


class SupportMethod(StrEnum):
    """How a verdict was reached: by comparing words, or by asking the chat model."""

    WORDS = "words"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Support:
    """An estimate of whether a quote supports a claim; `score` (0 to 1) is the share of the claim's words in it."""

    score: float = 0.0
    verdict: Verdict = Verdict.UNKNOWN
    method: SupportMethod = SupportMethod.WORDS

    @classmethod
    def from_json(cls, stored: dict[str, Any] | float) -> Self:
        """Return the instance for the stored JSON; versions before 0.2 stored the score alone."""
        if not isinstance(stored, dict):
            return cls(float(stored))
        return cls(stored["score"], Verdict(stored["verdict"]), SupportMethod(stored["method"]))


NO_SUPPORT = Support()


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker `[n]` in an answer, at code point `message_offset` of the message.

    `char_start` and `char_end` are the quote's span in the document. A citation whose number has no source has no
    document and no span. `verified` means that the quote stands at its span in that version, character by character;
    `support` estimates whether it states what the answer says.
    """

    n: int
    message_offset: int
    document_id: UUID | None = None
    filename: str | None = None
    version: int | None = None
    page_first: int | None = None
    heading_path: tuple[str, ...] = ()
    char_start: int | None = None
    char_end: int | None = None
    quote: str | None = None
    support: Support = NO_SUPPORT
    verified: bool = False

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return the instance for the stored JSON object."""
        document_id = stored["document_id"]
        return cls(
            **{
                **stored,
                "support": Support.from_json(stored["support"]),
                "document_id": UUID(document_id) if document_id else None,
                "heading_path": tuple(stored["heading_path"]),
            }
        )

    def redacted(self) -> Self:
        """Return a copy without text of the document."""
        return replace(self, filename="", heading_path=(), quote="", verified=False, support=NO_SUPPORT)

    @property
    def is_redacted(self) -> bool:
        """Whether the text of the document was removed."""
        return self.filename == ""
