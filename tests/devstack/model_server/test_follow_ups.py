"""A follow-up question takes only the missing context from earlier questions."""

from __future__ import annotations

import pytest

from ragsvc.devstack.model_server.follow_ups import restate

WEIGHT = "How heavy is the Kelvin Go?"
LOUD = "And how loud is it at night?"


@pytest.mark.parametrize(
    "question",
    ["How do I remove the lid?", "Which code means that a disk is full?", "Is there a spare filter?", "What is dpkg?"],
)
def test_a_standalone_question_is_unchanged(question: str) -> None:
    assert restate(question, [WEIGHT, LOUD]) == question


@pytest.mark.parametrize(
    ("before", "question", "restated"),
    [
        ([WEIGHT], LOUD, f"Kelvin Go {LOUD}"),
        ([WEIGHT, LOUD, "What about its guarantee?"], "Where is it made?", "Kelvin Go Where is it made?"),
        ([WEIGHT, "And the Tamaro?"], "Where do I send it?", "Tamaro Where do I send it?"),
        (["What is the default of max_connections?"], "May I change that?", "max_connections May I change that?"),
    ],
)
def test_a_pronoun_refers_to_the_name_mentioned_last(before: list[str], question: str, restated: str) -> None:
    assert restate(question, before) == restated


@pytest.mark.parametrize(
    ("before", "question", "restated"),
    [
        ([WEIGHT], "And the Tamaro?", "How heavy is the ? And the Tamaro?"),
        ([WEIGHT, LOUD], "And the Tamaro?", f"{LOUD} And the Tamaro?"),
        ([WEIGHT, "And the Tamaro?"], "And the Halden XL?", "How heavy is the ? And the Halden XL?"),
        (["HV021"], "2202G", "2202G"),
    ],
)
def test_a_new_name_replaces_the_previous_one(before: list[str], question: str, restated: str) -> None:
    assert restate(question, before) == restated


@pytest.mark.parametrize(
    ("before", "question", "restated"),
    [
        ([WEIGHT], "And in a box?", "How heavy is the ? Kelvin Go And in a box?"),
        (["Who cleans the kettle?"], "How often?", "Who cleans the kettle? How often?"),
        (["Who cleans the kettle?", "How often?", "Why?"], "And the lid?", "Who cleans the kettle? And the lid?"),
        (
            ["Who leads the team?", "When was she elected?"],
            "What does she do?",
            "Who leads the team? What does she do?",
        ),
        (["Why?"], "And then?", "And then?"),
        ([], "And then?", "And then?"),
    ],
)
def test_a_continuation_is_prefixed_with_its_question(before: list[str], question: str, restated: str) -> None:
    assert restate(question, before) == restated
