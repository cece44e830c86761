"""Tests of writing and recognising abstentions."""

from __future__ import annotations

import pytest

from ragsvc.abstention import (
    NO_ANSWER_TEXT,
    NO_ANSWER_TEXTS,
    choose_no_answer_text,
    is_no_answer,
    read_instruction,
    write_instruction,
)
from ragsvc.languages import detect_language


@pytest.mark.parametrize(("language", "text"), NO_ANSWER_TEXTS.items())
def test_each_text_is_in_its_language(language: str, text: str) -> None:
    # Danish and Norwegian are often too similar to be told apart.
    assert detect_language(text) in {language, None}
    assert is_no_answer(text, "Ask Kim.")


@pytest.mark.parametrize(
    ("question", "language"),
    [("Wie viele Urlaubstage habe ich?", "de"), ("料金はいくらですか", "ja"), ("Kaution", "en"), ("วันหยุดกี่วัน", "en")],
)
def test_the_text_is_in_the_language_of_the_question(question: str, language: str) -> None:
    assert choose_no_answer_text(question) == NO_ANSWER_TEXTS[language]


@pytest.mark.parametrize(
    ("answer", "abstains"),
    [
        ("Ask Kim.", True),
        ("ask Kim", True),
        ("Ask Kim. Or look into the manual.", True),
        (NO_ANSWER_TEXT, True),
        ("**The documents do not contain an answer to this question**", True),
        ("Refunds take 14 days [1].", False),
        ("It is not so that the documents do not contain an answer to this question.", False),
        ("", False),
    ],
)
def test_an_abstention_is_recognised(answer: str, abstains: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_no_answer(answer, "Ask Kim.") is abstains


def test_a_text_without_letters_is_recognised_as_a_whole() -> None:
    assert is_no_answer("…", "…")
    assert not is_no_answer("Refunds take 14 days [1].", "…")


def test_the_instruction_is_read_back() -> None:
    instruction = write_instruction("Ask Kim.\nOr Ada.")
    prompt = f"Answer.\n{instruction}\n\nBe brief."
    assert read_instruction(prompt) == "Ask Kim. Or Ada."
    assert read_instruction("Answer.") is None
