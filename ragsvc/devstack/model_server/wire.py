"""The OpenAI wire format: parsing of requests, and the shapes of responses and errors."""

from __future__ import annotations

import base64
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_INPUTS = 2048


class Refused(Exception):
    """A request that is refused with an error object."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Completion:
    """The text of a chat completion and its token counts."""

    model: str
    content: str
    prompt_tokens: int
    completion_tokens: int
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> dict[str, int]:
        """The token counts."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def envelope(self, kind: str) -> dict[str, Any]:
        """Return the fields that a full response and each stream chunk have in common."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


async def read_body(request: web.Request, *, model: str) -> dict[str, Any]:
    """Return the JSON object of a request to this model."""
    try:
        body = await request.json()
    except ValueError:
        raise Refused("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refused("the body is not a JSON object")
    if body.get("model") != model:
        message = f"there is no model {body.get('model')!r}; this server has {model}"
        raise Refused(message, status=404, param="model", code="model_not_found")
    return body


def read_input(body: dict[str, Any]) -> list[str]:
    """Return the texts to embed."""
    value = body.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refused("input must be a string or a list of strings, none of them empty", param="input")
    if len(texts) > MAX_INPUTS:
        raise Refused(f"input has {len(texts)} strings, but {MAX_INPUTS} is the limit", param="input")
    return texts


def read_encoding_format(body: dict[str, Any]) -> str:
    """Return the requested encoding of vectors."""
    encoding_format: str = body.get("encoding_format", "float")
    if encoding_format not in {"float", "base64"}:
        raise Refused("encoding_format must be 'float' or 'base64'", param="encoding_format")
    return encoding_format


def read_questions(body: dict[str, Any]) -> list[str]:
    """Return the texts of the user's messages in order, at least one."""
    if contents := _read_messages(body, role="user"):
        return contents
    raise Refused("messages must contain a user message", param="messages")


def read_system(body: dict[str, Any]) -> str:
    """Return the text of the system messages."""
    return "\n".join(_read_messages(body, role="system"))


def _read_messages(body: dict[str, Any], *, role: str) -> list[str]:
    """Return the texts of a role's messages in order; content in parts is joined."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise Refused("messages must be a list", param="messages")
    contents = [
        message.get("content") for message in messages if isinstance(message, dict) and message.get("role") == role
    ]
    return [_join_parts(content) for content in contents]


def _join_parts(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def wants_usage(body: dict[str, Any]) -> bool:
    """Return whether a stream must end with its usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def write_vector(vector: NDArray[np.float32], *, encoding_format: str) -> str | list[float]:
    """Return a vector in the requested encoding."""
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


def write_error(refused: Refused) -> web.Response:
    """Return the error object. The SDKs retry 409, 429 and 5xx, so a refusal uses none of these."""
    error = {
        "message": str(refused),
        "type": "invalid_request_error",
        "param": refused.param,
        "code": refused.code,
    }
    return web.json_response({"error": error}, status=refused.status, headers={"x-should-retry": "false"})
