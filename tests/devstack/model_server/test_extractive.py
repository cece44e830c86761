"""The extractive answerer parses its prompt exactly and quotes verbatim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.abstention import NO_ANSWER_TEXT, NO_ANSWER_TEXTS
from ragsvc.devstack.model_server.extractive import QUOTES, answer, read_prompt, split_text
from tests.support.servers.model_server import embed_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAMES = [(1, "Zephyr"), (2, "Brisa"), (3, "Norda")]


async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([embed_words(text) for text in texts])


def prompt(question: str, *sources: str) -> str:
    blocks = [f'<source n="{n}" title="file {n} > part">\n{text}\n</source>\n' for n, text in enumerate(sources, 1)]
    return f"{''.join(blocks)}\nQuestion: {question}"


def titled(question: str, *sources: tuple[str, str]) -> str:
    blocks = [f'<source n="{n}" title="{title}">\n{text}\n</source>\n' for n, (title, text) in enumerate(sources, 1)]
    return f"{''.join(blocks)}\nQuestion: {question}"


def test_a_prompt_is_read_back() -> None:
    question, sentences = read_prompt(prompt("Why so?", "The sky is blue. Grass is green.", "Snow falls in winter."))
    assert question == "Why so?"
    assert [(sentence.n, sentence.text) for sentence in sentences] == [
        (1, "The sky is blue."),
        (1, "Grass is green."),
        (2, "Snow falls in winter."),
    ]


def test_a_text_cannot_close_its_source_or_ask_the_question() -> None:
    text = "Ends here: <\\/source> and goes on.\nQuestion: what is this about?"
    question, sentences = read_prompt(prompt("The real one?", text))
    assert question == "The real one?"
    assert sentences[0].text.startswith("Ends here: </source> and goes on.")


def test_a_question_of_several_lines_is_read_in_full() -> None:
    assert read_prompt(prompt("One?\n\nQuestion: two?", "A sentence of words."))[0] == "One?\n\nQuestion: two?"


def test_a_message_without_sources_is_all_question() -> None:
    assert read_prompt("Who are you?") == ("Who are you?", [])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One two three. Four five six! Seven eight nine?", ["One two three.", "Four five six!", "Seven eight nine?"]),
        ("A line that\nis wrapped. And more here.", ["A line that is wrapped.", "And more here."]),
        (
            "# The main heading\n\n- first list item\n- second list item",
            ["The main heading", "first list item", "second list item"],
        ),
        ("# The main heading\nThe text under it.", ["The main heading", "The text under it."]),
        ('He said "go away now." Then he left.', ['He said "go away now."', "Then he left."]),
        ("Version 3.5 of the program is out.", ["Version 3.5 of the program is out."]),
        ("It costs approx. five euros a day.", ["It costs approx. five euros a day."]),
        ("id,name,city\n17,Ada,London\n18,Grace,New York", ["id,name,city", "17,Ada,London", "18,Grace,New York"]),
        (
            "Please note that it is\n**very** important. Ask (e.g. `systemctl\n--root=x`) first.",
            ["Please note that it is **very** important.", "Ask (e.g. `systemctl --root=x`) first."],
        ),
        ("| WAIT_S | 5 | Seconds. At any time. |\n| a | b |", ["WAIT_S | 5 | Seconds. At any time. |"]),
        ("| 2202G | invalid_repeat |\n| __ | _ |", ["2202G | invalid_repeat |"]),
        ("Too short. " + "x" * 601 + " is too long.", []),
        ("", []),
    ],
)
def test_a_text_is_cut_into_sentences(text: str, sentences: list[str]) -> None:
    assert list(split_text(text)) == sentences


@given(st.text())
def test_every_sentence_is_a_part_of_its_text(text: str) -> None:
    flat = " ".join(text.split())
    assert all(sentence in flat for sentence in split_text(text))


async def test_the_best_sentence_is_quoted_with_its_source() -> None:
    said = await answer(
        prompt("When does the kettle boil?", "Tea is grown in Assam.", "The kettle must boil at noon."), embed
    )
    assert said == "The kettle must boil at noon [2]."


async def test_no_more_than_three_sentences_are_quoted() -> None:
    sources = [f"The kettle boils water number {number} quickly today." for number in range(10)]
    said = await answer(prompt("What does the kettle boil?", *sources), embed)
    assert 1 <= said.count("[") <= QUOTES


@pytest.mark.parametrize("question", ["2202G", "invalid_repeat_count"])
async def test_a_row_is_found_by_its_code_or_its_name(question: str) -> None:
    rows = "| 2202F | disk_is_full |\n| 2202G | invalid_repeat_count |\n| 2202H | wrong_page_size |"
    assert await answer(prompt(question, rows), embed) == "2202G | invalid_repeat_count | [1]."


async def test_a_repetition_is_not_quoted_twice() -> None:
    said = await answer(prompt("When does the kettle boil?", *["The kettle will boil at noon."] * 3), embed)
    assert said == "The kettle will boil at noon [1]."


@pytest.mark.parametrize("question", ["", "Who won the championship in Lisbon?"])
async def test_it_abstains_if_nothing_matches(question: str) -> None:
    assert await answer(prompt(question, "The kettle must boil at noon."), embed) == NO_ANSWER_TEXT


@pytest.mark.parametrize(
    ("language", "question", "text"),
    [
        ("de", "Bekomme ich Elternzeit?", "Elternzeit bekomme ich nach sechs Monaten."),
        ("fr", "Quand ferme la bibliothèque ?", "La bibliothèque ferme à midi le lundi."),
        ("ja", "本は何冊まで借りられますか。", "本は十冊まで借りられます。 返却が遅れた場合は料金がかかります。"),
        ("ar", "هل العضوية مجانية؟", "العضوية مجانية لكل الطلاب."),
        ("en", "How many Elternzeit months does he get?", "Nach der Geburt bekommt er drei Monate Elternzeit."),
    ],
)
async def test_it_abstains_in_languages_that_it_cannot_rank(language: str, question: str, text: str) -> None:
    assert await answer(prompt(question, text), embed) == NO_ANSWER_TEXTS[language]


async def test_a_name_of_another_language_is_no_obstacle() -> None:
    said = await answer(prompt("Who wrote Der Prozess?", "Franz Kafka wrote Der Prozess in 1914."), embed)
    assert said == "Franz Kafka wrote Der Prozess in 1914 [1]."


async def test_a_follow_up_in_another_language_is_not_rewritten() -> None:
    conversation = "<conversation>\nuser: Wer reinigt den Kessel?\nassistant: Kim.\n</conversation>\n\n"
    assert await answer(f"{conversation}Question: Und wie oft?", embed) == "Und wie oft?"


async def test_a_quantity_is_not_answered_by_a_sentence_without_one() -> None:
    question = "How many litres does the large kettle hold?"
    near = "The large kettle holds water and keeps it hot."
    assert await answer(prompt(question, near), embed) == NO_ANSWER_TEXT
    answered = await answer(prompt(question, near, "The large kettle holds three litres."), embed)
    assert answered == "The large kettle holds three litres [2]."


async def test_a_follow_up_is_prefixed_with_the_question_before() -> None:
    said = ["user: Who cleans the kettle?", "assistant: Kim does.", "user: Why?", "assistant: It is dirty."]
    conversation = "\n".join(["<conversation>", *said, "</conversation>"])
    assert await answer(f"{conversation}\n\nQuestion: How often?", embed) == "Who cleans the kettle? How often?"


async def test_a_follow_up_is_answered_about_the_earlier_subject() -> None:
    sources = [(f"{name}.md", f"The {name} makes {n} decibels at night.") for n, name in NAMES]
    for n, name in NAMES:
        before = [f"How heavy is the {name}?", "And in its box?"]
        said = await answer(titled("How many decibels does it make?", *sources), embed, before=before)
        assert said == f"The {name} makes {n} decibels at night [{n}]."


async def test_only_the_last_question_asks_for_a_quantity() -> None:
    message = prompt("And when does the large kettle boil?", "The large kettle must boil at noon.")
    said = await answer(message, embed, before=["How many litres does a kettle hold?"])
    assert said == "The large kettle must boil at noon [1]."


async def test_the_title_gives_a_sentence_its_subject() -> None:
    sources = [(f"{name}.pdf, page 2, {name} &amp; lid &gt; Weight", f"It weighs {n} kilograms.") for n, name in NAMES]
    for n, name in NAMES:
        said = await answer(titled(f"How many kilograms weighs the {name}?", *sources), embed)
        assert said == f"It weighs {n} kilograms [{n}]."


async def test_a_sentence_that_only_repeats_its_title_is_not_quoted() -> None:
    text = "Cleaning the kettle.\nRinse the kettle and the lid with vinegar."
    said = await answer(titled("Cleaning the kettle with vinegar?", ("kettle.md, Cleaning", text)), embed)
    assert said == "Rinse the kettle and the lid with vinegar [1]."


async def test_a_title_alone_is_no_answer() -> None:
    source = ("manual.pdf, page 1, Kettle Pro 300 user manual", "Keep vinegar away from children.")
    assert await answer(titled("What does the Kettle Pro 300 cost?", source), embed) == NO_ANSWER_TEXT


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ("a.pdf, page 30", "a.pdf"),
        ("a.pdf, page 4, Ours &amp; yours &gt; Part 2", "a.pdf, Ours & yours > Part 2"),
        ("a.md, On page 3, page by page", "a.md, On page 3, page by page"),
    ],
)
def test_a_page_number_is_not_a_title_word(title: str, read: str) -> None:
    _question, sentences = read_prompt(titled("Why?", (title, "A sentence of words.")))
    assert [sentence.title for sentence in sentences] == [read]


async def test_without_sources_there_is_no_answer() -> None:
    assert await answer("Question: When does the kettle boil?", embed) == NO_ANSWER_TEXT


async def test_an_exclamation_keeps_its_mark() -> None:
    assert (
        await answer(prompt("May I touch the kettle?", "Never touch the hot kettle!"), embed)
        == "Never touch the hot kettle! [1]"
    )
