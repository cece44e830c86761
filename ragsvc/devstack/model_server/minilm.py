"""Embeds texts with all-MiniLM-L6-v2 in threads, so that a query never waits behind a large batch."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from ragsvc.devstack.model_server.minilm_files import GRAPH_NAME, check_weights, model_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DIMENSIONS = 384
MAX_TOKENS = 256
# A request of at most this size counts as a query; queries have their own thread.
QUERY_TOKENS = 2 * MAX_TOKENS
# Size of one run of the model. Larger runs are hardly faster on a CPU, and make other requests wait longer.
BATCH_TOKENS = 512
BATCH_NICENESS = 5


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as token ids."""

    ids: tuple[int, ...]

    def cut(self, tokens: int) -> Encoded:
        """Return the text shortened to `tokens` tokens, including the closing one."""
        return self if len(self.ids) <= tokens else Encoded((*self.ids[: tokens - 1], self.ids[-1]))


class MiniLM:
    """The loaded model."""

    def __init__(self, cache: Path) -> None:
        check_weights(model_folder() / "model.safetensors")
        options = onnxruntime.SessionOptions()
        # One thread per run: parallel runs use the cores better than parallel loops within a run.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = _open_session(cache / GRAPH_NAME, options)
        self._tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._width = os.cpu_count() or 1
        self._queries = ThreadPoolExecutor(1, thread_name_prefix="query")
        self._batches = ThreadPoolExecutor(self._width, thread_name_prefix="batch", initializer=_yield_to_others)

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the token ids of texts, without truncation."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor(sum(map(len, texts)) // 4), self._encode, texts)

    async def embed(self, encoded: Sequence[Encoded]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, 384); every text has at most MAX_TOKENS tokens.

        A request queues only a few batches at a time, so that concurrent requests alternate.
        """
        vectors = np.empty((len(encoded), DIMENSIONS), np.float32)
        executor = self._executor(sum(len(text.ids) for text in encoded))
        loop = asyncio.get_running_loop()
        turns = asyncio.Semaphore(self._width)

        async def run(batch: list[int]) -> None:
            async with turns:
                vectors[batch] = await loop.run_in_executor(executor, self._run, [encoded[at].ids for at in batch])

        async with asyncio.TaskGroup() as group:
            for batch in _batches(encoded):
                group.create_task(run(batch))
        return vectors

    def close(self) -> None:
        """Finish the running batches and drop the queued ones."""
        for executor in (self._queries, self._batches):
            executor.shutdown(wait=False, cancel_futures=True)

    def _executor(self, tokens: int) -> ThreadPoolExecutor:
        return self._queries if tokens <= QUERY_TOKENS else self._batches

    def _encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(tuple(encoding.ids)) for encoding in self._tokenizer.encode_batch(list(texts))]

    def _run(self, batch: list[tuple[int, ...]]) -> NDArray[np.float32]:
        shape = (len(batch), max(map(len, batch)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        embedded: NDArray[np.float32] = vectors
        return embedded


def _open_session(graph: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception:
        # Remove a damaged graph; the next start rebuilds it.
        graph.unlink(missing_ok=True)
        raise


def _batches(encoded: Sequence[Encoded]) -> Iterator[list[int]]:
    """Yield the indexes of texts that run together: of similar length, up to BATCH_TOKENS including padding."""
    batch: list[int] = []
    for at in sorted(range(len(encoded)), key=lambda at: len(encoded[at].ids)):
        if batch and len(encoded[at].ids) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _yield_to_others() -> None:
    # Niceness is per thread on Linux: queries and the rest of the service come first. If the process was started with a
    # higher niceness, keep it: only root can lower it, and a thread that fails here breaks its executor.
    thread = threading.get_native_id()
    niceness = max(BATCH_NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
    os.setpriority(os.PRIO_PROCESS, thread, niceness)
