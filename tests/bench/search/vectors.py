"""Realistic vectors: MiniLM's embeddings of the standard library's docstrings, and many more interpolated from them."""

from __future__ import annotations

import ast
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ragsvc.llm.client import LlmClient

# A topic is a module of the standard library with enough text. These are the shares of the first topics; the others
# divide the rest.
SHARES = (0.5, 0.2, 0.05, 0.005)
TOPICS = 40
MOST_TEXTS = 80
SHORTEST_TEXT_CHARS = 80
LONGEST_TEXT_CHARS = 240
EMBEDDED_AT_ONCE = 64
# Scale of the offset added to an interpolated vector, so that neighbouring chunks differ as much as real ones.
SPREAD = 0.4


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors, shape (count, dimensions), and the topic of each; the vectors of a document are adjacent."""

    values: NDArray[np.float32]
    topics: NDArray[np.int64]


async def embed_sample(models: LlmClient) -> Vectors:
    """Return the vectors of the standard library's docstrings."""
    chosen = [texts[:MOST_TEXTS] for texts in sorted(_iterate_modules(), key=len, reverse=True)[:TOPICS]]
    texts = [text for texts in chosen for text in texts]
    batches = [texts[start : start + EMBEDDED_AT_ONCE] for start in range(0, len(texts), EMBEDDED_AT_ONCE)]
    values = np.concatenate([(await models.embed(batch, token_count=0))[0] for batch in batches])
    return Vectors(values, np.repeat(np.arange(TOPICS), [len(texts) for texts in chosen]))


def make_vectors(sample: Vectors, documents: int, *, chunks: int, seed: int) -> Vectors:
    """Return the vectors of documents' chunks; each document is about one topic.

    A chunk's vector lies between its document's real vector and another real vector of the same topic. Added to it is
    the scaled difference of two real vectors of any topic, so that the same dimensions vary as in real vectors, which
    isotropic noise would not achieve.
    """
    random = np.random.default_rng(seed)
    topics = random.choice(TOPICS, documents, p=_shares())
    first = np.searchsorted(sample.topics, np.arange(TOPICS))
    counts = np.bincount(sample.topics, minlength=TOPICS)
    about = np.repeat(first[topics] + random.integers(counts[topics]), chunks)
    topics = np.repeat(topics, chunks)
    other = first[topics] + random.integers(counts[topics])
    plus, minus = random.integers(len(sample.values), size=(2, len(topics)))
    share = random.random((len(topics), 1), dtype=np.float32)
    real = sample.values
    made = real[about] * share + real[other] * (1 - share) + SPREAD * (real[plus] - real[minus])
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return Vectors(made.astype(np.float32), topics)


def _shares() -> NDArray[np.float64]:
    left = 1 - sum(SHARES)
    return np.array([*SHARES, *([left / (TOPICS - len(SHARES))] * (TOPICS - len(SHARES)))])


def _iterate_modules() -> Iterator[list[str]]:
    """Yield the docstrings of each package or module of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        paths = sorted((root / name).glob("*.py")) or [root / f"{name}.py"]
        texts = [text for path in paths if path.exists() for text in _iterate_docstrings(path)]
        yield list(dict.fromkeys(texts))


def _iterate_docstrings(path: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_bytes())):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        if text and len(text) >= SHORTEST_TEXT_CHARS:
            yield text[:LONGEST_TEXT_CHARS]
