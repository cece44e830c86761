"""The errors page is complete."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from ragsvc.errors.work import DocumentErrorCode
from ragsvc.http.contract.problems import PROBLEMS
from ragsvc.jobs.retry_policy import DRIVER_ERROR_KINDS
from ragsvc.llm.errors import Kind
from tests.docs.pages import rows_of, section_of

PAGE = "docs/errors.md"
REASONS = section_of(PAGE, "Why a document fails")


def test_every_code_is_listed_with_its_status() -> None:
    rows = list(rows_of(section_of(PAGE, "Codes")))
    assert all(advice for _code, _status, advice in rows)
    listed = {code.strip("`"): int(status) for code, status, _advice in rows}
    assert listed == {code: problem.status for code, problem in PROBLEMS.items()}


@pytest.mark.parametrize("code", [*DocumentErrorCode, *(code for _fits, _kind, code in DRIVER_ERROR_KINDS)])
def test_every_reason_that_a_document_fails_for_is_explained(code: str) -> None:
    assert f"`{code}`" in REASONS


def test_a_replay_is_explained() -> None:
    assert "ragsvc dlq replay ingestion --code" in REASONS


def test_every_failure_of_the_chat_model_is_explained() -> None:
    explained = set(re.findall(r"`chat_(\w+)`", section_of(PAGE, "Why an answer fails")))
    assert explained == {*get_args(Kind), "unreachable"}
