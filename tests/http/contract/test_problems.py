"""The table of problems is complete, and all errors have the same shape."""

from __future__ import annotations

import orjson
import pytest

from ragsvc.errors.base import RagsvcError
from ragsvc.errors.requests import InvalidRequest, RequestError, TooManyStreams, Unauthorized
from ragsvc.http.contract.problems import PROBLEMS, error_of_status, problem_response, request_errors


@pytest.mark.parametrize("kind", request_errors())
def test_every_request_error_has_a_status(kind: type[RequestError]) -> None:
    assert kind.code in PROBLEMS


def test_every_code_in_the_table_belongs_to_an_error() -> None:
    assert set(PROBLEMS) == {kind.code for kind in request_errors()} | {RagsvcError.code}


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in request_errors()]
    assert len(codes) == len(set(codes))


def test_a_problem_has_its_detail_its_fields_and_the_request_id() -> None:
    response = problem_response(InvalidRequest(fields={"name": "is missing"}), request_id="req_1")
    assert isinstance(response.body, bytes)
    assert response.status == 422
    assert response.content_type == "application/problem+json"
    assert orjson.loads(response.body) == {
        "type": "/docs#invalid_request",
        "title": "Invalid request",
        "status": 422,
        "detail": "name: is missing",
        "code": "invalid_request",
        "request_id": "req_1",
        "errors": [{"field": "name", "message": "is missing"}],
    }


def test_an_unauthorized_response_names_the_authentication_scheme() -> None:
    assert problem_response(Unauthorized(), request_id="req_1").headers["WWW-Authenticate"] == "Bearer"


def test_a_retryable_problem_has_a_retry_after_header() -> None:
    assert int(problem_response(TooManyStreams(), request_id="req_1").headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not_found"), (405, "method_not_allowed"), (413, "too_large"), (400, "bad_request")]
)
def test_errors_raised_by_aiohttp_get_our_codes(status: int, code: str) -> None:
    assert error_of_status(status).code == code
