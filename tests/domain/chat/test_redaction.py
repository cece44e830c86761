"""Tests of redacting messages: only the words of hidden documents go, and all offsets remain valid."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.domain.chat.citations import NO_SUPPORT, Citation, Source, Support, Verdict
from ragsvc.domain.chat.conversations import ChatMessage
from ragsvc.domain.chat.redaction import BLANK, redact_message, remove_blanked
from ragsvc.domain.ids import new_id

DOCUMENTS = tuple(new_id() for _ in range(3))
MARKER = re.compile(r"\[([0-9]+)\]")


def answer(content: str, *, status: str = "completed", finish_reason: str = "stop") -> ChatMessage:
    """Return an answer from DOCUMENTS, with a citation for each `[n]` in its content."""
    sources = tuple(
        Source(n, new_id(), document_id, f"{n}.txt", None, ("Heading",), 1.0)
        for n, document_id in enumerate(DOCUMENTS, start=1)
    )
    citations = tuple(
        Citation(
            n=int(match[1]),
            message_offset=match.start(),
            document_id=DOCUMENTS[int(match[1]) - 1],
            filename=f"{match[1]}.txt",
            heading_path=("Heading",),
            quote="Quote.",
            support=Support(1.0, Verdict.SUPPORTED),
            verified=True,
        )
        for match in MARKER.finditer(content)
    )
    return ChatMessage(
        workspace_id=new_id(),
        id=new_id(),
        session_id=new_id(),
        run_id=new_id(),
        role="assistant",
        status=status,
        content=content,
        sources=sources,
        citations=citations,
        model=None,
        usage=None,
        created_at=datetime.now(UTC),
        finish_reason=finish_reason,
    )


def redact(content: str, *hidden: int, status: str = "completed") -> str:
    """Return the content after redaction of the documents with these numbers, with one `#` for each run of blanks."""
    message = redact_message(answer(content, status=status), [DOCUMENTS[n - 1] for n in hidden])
    assert len(message.content) == len(content)
    return re.sub(f"{BLANK}+", "#", message.content)


@pytest.mark.parametrize(
    ("content", "hidden", "expected"),
    [
        ("One is red [1]. Two is blue [2].", [1], "#[1]# Two is blue [2]."),
        ("One is red. [1] Two is blue. [2]", [2], "One is red. [1] #[2]"),
        ("So. One is red [1]. Two is blue [2].", [1], "# #[1]# Two is blue [2]."),
        ("Two is blue [2]. So. One is red [1].", [1], "Two is blue [2]. # #[1]#"),
        ("Two is blue [2].\n\nSo.\n\nOne is red [1].", [1], "Two is blue [2].\n\nSo.\n\n#[1]#"),
        ("Colours:\n- red [1]\n- blue [2]", [2], "Colours:\n- red [1]\n#[2]"),
        ("One [1] and two [2] differ. Three [3].", [1], "#[1]#[2]# Three [3]."),
        ("One is red [1]. Two is blue [2].", [3], "One is red [1]. Two is blue [2]."),
        ("One is red [1]. It is [1].", [1], "#[1]#[1]#"),
        ("One is red.", [3], "#"),
        ("Two is blue [2]. It ends.", [1], "Two is blue [2]. It ends."),
    ],
)
def test_sentences_that_cite_hidden_documents_are_blanked(content: str, hidden: list[int], expected: str) -> None:
    assert redact(content, *hidden) == expected


def test_words_without_their_citation_are_blanked_in_an_unfinished_answer() -> None:
    assert redact("Two is blue [2]. One is r", 1, status="interrupted") == "Two is blue [2]. #"


def test_abstentions_remain() -> None:
    message = answer("The documents do not tell.", finish_reason="no_answer")
    assert redact_message(message, DOCUMENTS).content == message.content


def test_sources_and_citations_lose_their_text() -> None:
    message = redact_message(answer("One is red [1]. Two is blue [2]."), DOCUMENTS[:1])
    assert message.redacted
    citation, other = message.citations
    assert (citation.quote, citation.filename, citation.heading_path) == ("", "", ())
    assert (citation.verified, citation.support) == (False, NO_SUPPORT)
    assert (other.quote, other.filename, other.verified) == ("Quote.", "2.txt", True)
    assert [source.filename for source in message.sources] == ["", "2.txt", "3.txt"]
    assert message.sources[0].heading_path == ()


def test_a_message_without_the_document_is_unchanged() -> None:
    message = answer("One is red [1].")
    assert redact_message(message, []) is message
    assert redact_message(replace(message, sources=(), citations=()), DOCUMENTS).redacted is False


def test_models_get_no_blanked_sentences() -> None:
    message = redact_message(answer("One is red [1]. Two is blue [2]."), DOCUMENTS[:1])
    assert remove_blanked(MARKER.sub("", message.content)) == "Two is blue ."
    whole = redact_message(message, DOCUMENTS[:2])
    assert remove_blanked(MARKER.sub("", whole.content)) == ""


SENTENCES = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["Eins.", "The sky", "Ja!", "Ünï"])), max_size=8)


@given(sentences=SENTENCES, hidden=st.sets(st.integers(1, 3)))
def test_only_hidden_sentences_are_blanked_and_offsets_remain_valid(
    sentences: list[tuple[int, str]], hidden: set[int]
) -> None:
    content = "\n".join(f"{text} [{n}]." for n, text in sentences)
    ids = [DOCUMENTS[n - 1] for n in hidden]
    before = step = answer(content)
    message = redact_message(before, ids)
    assert len(message.content) == len(content)
    assert MARKER.findall(message.content) == [str(n) for n, _text in sentences]
    # Documents are also deleted one after another.
    for document_id in ids:
        step = redact_message(step, [document_id])
    is_whole = {n for n, _text in sentences} <= hidden
    for after in (message, step):
        start = 0
        for n, text in sentences:
            line = slice(start, start + len(f"{text} [{n}]."))
            words = MARKER.sub("", after.content[line])
            assert set(words) == {BLANK} if n in hidden or is_whole else after.content[line] == content[line]
            start = line.stop + 1
    assert (step.citations, step.sources) == (message.citations, message.sources)
    assert redact_message(message, ids) == message
