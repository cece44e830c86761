"""The model server speaks the OpenAI wire format, tested with OpenAI's own client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import numpy as np
import openai
import pytest
from aiohttp import web
from openai import AsyncOpenAI

from ragsvc.abstention import NO_ANSWER_TEXT, write_instruction
from ragsvc.devstack.model_server import extractive
from ragsvc.devstack.model_server.app import create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from numpy.typing import NDArray
    from openai.types.chat import ChatCompletionUserMessageParam

    from tests.support.servers.servers import Servers

KEY = "the key of this server"
MINILM = "all-MiniLM-L6-v2"
PROMPT = """\
<source n="1" title="handbook.pdf, Setup > Backups">
Backups
A backup of every database is kept for thirty days. The cafeteria opens at noon.
</source>
<source n="2" title="holidays.md">
Employees get 25 days of vacation per year.
</source>
Question: """


@pytest.fixture(scope="module")
async def server_url(servers: Servers) -> AsyncIterator[str]:
    """A server in this process, with the cached models of the shared servers."""
    app = create_app(Path(servers.tokenizer).parent, api_key=KEY)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def client(server_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server_url}/v1", api_key=KEY, max_retries=0) as opened:
        yield opened


async def embed(client: AsyncOpenAI, texts: Sequence[str]) -> NDArray[np.float32]:
    answer = await client.embeddings.create(model=MINILM, input=list(texts))
    return np.array([one.embedding for one in answer.data], np.float32)


def ask(question: str) -> list[ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": PROMPT + question}]


async def test_a_paraphrase_is_closer_than_an_unrelated_text(client: AsyncOpenAI) -> None:
    vectors = await embed(
        client, ["How long is a backup kept?", "For what time are backups retained?", "The cat sat on the mat."]
    )
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.7
    assert vectors[0] @ vectors[2] < 0.2


async def test_a_text_has_the_same_vector_alone_and_in_a_batch(client: AsyncOpenAI) -> None:
    texts = [f"Sentence {number} " + "with some more words " * (number % 8) for number in range(40)]
    together = await embed(client, texts)
    for number in (0, 17, 39):
        assert np.abs((await embed(client, [texts[number]]))[0] - together[number]).max() < 1e-5


async def test_floats_and_base64_are_the_same_numbers(client: AsyncOpenAI) -> None:
    plain = await client.embeddings.create(model=MINILM, input="hello", encoding_format="float")
    packed = await client.embeddings.create(model=MINILM, input="hello")
    assert np.allclose(plain.data[0].embedding, packed.data[0].embedding, atol=1e-7)
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 3


async def test_a_query_does_not_wait_for_a_large_batch(client: AsyncOpenAI) -> None:
    batch = asyncio.create_task(embed(client, ["many words that take their time " * 30] * 200))
    # A later request has been answered, so the server has accepted the batch.
    await embed(client, ["first"])
    await embed(client, ["second"])
    assert not batch.done()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": "word " * 300}, "input 0 has 302 tokens"),
        ({"input": ["fine", "word " * 300]}, "input 1 has 302 tokens"),
        ({"input": ""}, "none of them empty"),
        ({"input": []}, "none of them empty"),
        ({"input": ["fine", ""]}, "none of them empty"),
        ({"input": [1, 2]}, "a string or a list of strings"),
        ({"input": None}, "a string or a list of strings"),
        ({"input": ["x"] * 2049}, "2048 is the limit"),
        ({"input": "x", "dimensions": 256}, "384 dimensions"),
        ({"input": "x", "encoding_format": "hex"}, "'float' or 'base64'"),
    ],
)
async def test_invalid_embedding_input_is_refused(client: AsyncOpenAI, body: dict[str, object], message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        await client.post("/embeddings", body={"model": MINILM} | body, cast_to=object)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.response.headers["x-should-retry"] == "false"


async def test_a_text_of_256_tokens_is_embedded_in_full(client: AsyncOpenAI) -> None:
    # 254 words and the two special tokens make 256 tokens; the vectors differ only if the last word is embedded.
    one, other = await embed(client, ["word " * 253 + "cat", "word " * 253 + "bankruptcy"])
    assert np.abs(one - other).max() > 1e-3


async def test_another_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4o'"):
        await client.chat.completions.create(model="gpt-4o", messages=ask("Who?"))
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        await client.embeddings.create(model=extractive.NAME, input="x")


async def test_a_wrong_key_is_refused(server_url: str) -> None:
    async with AsyncOpenAI(base_url=f"{server_url}/v1", api_key="guess", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff"])
async def test_a_body_that_is_no_json_object_is_refused(server_url: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{server_url}/v1/embeddings", data=body) as answer,
    ):
        assert answer.status == 400
        assert "JSON" in (await answer.json())["error"]["message"]


async def test_an_unknown_path_returns_an_openai_error(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.images.generate(prompt="a cat")


async def test_the_answerer_is_labelled_as_extractive(client: AsyncOpenAI) -> None:
    models = {model.id: model.to_dict() async for model in client.models.list()}
    assert set(models) == {MINILM, extractive.NAME}
    assert "does not generate" in str(models[extractive.NAME]["description"])


async def test_an_answer_quotes_its_source(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=extractive.NAME, messages=ask("How long are backups kept?"))
    assert answer.choices[0].message.content == "Backups A backup of every database is kept for thirty days [1]."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream_has_the_same_text_in_small_deltas(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model=extractive.NAME, messages=ask("How much vacation do I get?"))
    stream = await client.chat.completions.create(
        model=extractive.NAME,
        messages=ask("How much vacation do I get?"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == whole.choices[0].message.content == "Employees get 25 days of vacation per year [2]."
    assert max(map(len, deltas)) < 12
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_has_usage_only_on_request(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model=extractive.NAME, messages=ask("Vacation?"), stream=True)
    assert [chunk.usage async for chunk in stream if chunk.usage] == []


async def test_a_question_without_an_answer_gets_the_abstention(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=extractive.NAME, messages=ask("Which team won the football championship?")
    )
    assert answer.choices[0].message.content == NO_ANSWER_TEXT


async def test_the_abstention_is_the_one_that_the_prompt_asks_for(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=extractive.NAME,
        messages=[
            {"role": "system", "content": f"Be kind.\n{write_instruction('Ask Kim.')}\n\nBe brief."},
            {"role": "user", "content": f"{PROMPT}Which team won the football championship?"},
        ],
    )
    assert answer.choices[0].message.content == "Ask Kim."


@pytest.mark.parametrize(
    "messages",
    [None, "text", [], [{"role": "system", "content": "Be kind."}], ["text"]],
)
async def test_a_chat_without_a_question_is_refused(client: AsyncOpenAI, messages: object) -> None:
    body = {"model": extractive.NAME, "messages": messages}
    with pytest.raises(openai.BadRequestError, match="messages"):
        await client.post("/chat/completions", body=body, cast_to=object)


async def test_a_message_in_parts_is_joined(client: AsyncOpenAI) -> None:
    parts = [{"type": "text", "text": PROMPT}, {"type": "text", "text": "How much vacation do I get?"}]
    answer = await client.chat.completions.create(
        model=extractive.NAME,
        messages=[{"role": "user", "content": parts}],  # type: ignore[list-item,misc]
    )
    assert answer.choices[0].message.content == "Employees get 25 days of vacation per year [2]."


async def test_a_follow_up_uses_the_earlier_questions(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=extractive.NAME,
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "How much vacation do employees get?"}]},
            {"role": "assistant", "content": "A lot."},
            *ask("And how long?"),
        ],
    )
    assert answer.choices[0].message.content == "Employees get 25 days of vacation per year [2]."


async def test_health_needs_no_key(server_url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{server_url}/health") as answer:
        assert answer.status == 200
        assert set((await answer.json())["models"]) == {MINILM, extractive.NAME}
