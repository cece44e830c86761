"""The model server as a part of the stack."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ragsvc.devstack.model_server import extractive
from ragsvc.devstack.model_server.minilm_files import GRAPH_NAME, write_tokenizer
from ragsvc.devstack.ports import LOOPBACK, answers
from ragsvc.devstack.process import Command, run

if TYPE_CHECKING:
    from pathlib import Path

    from ragsvc.devstack.process import Process

# Settings of the service for MiniLM; the chunk size leaves a margin for headings that are embedded with a chunk.
EMBEDDING_SETTINGS = {
    "EMBEDDING_MODEL": "all-MiniLM-L6-v2",
    "EMBEDDING_DIMENSIONS": "384",
    "EMBEDDING_MAX_INPUT_TOKENS": "256",
    "CHUNK_MAX_TOKENS": "240",
    "CHUNK_OVERLAP_TOKENS": "32",
    # One core embeds about 17 texts per second, and the calls of four concurrent documents must finish within
    # MODEL_TIMEOUT_S even on a busy machine.
    "EMBEDDING_BATCH_SIZE": "16",
    "EMBEDDING_CONCURRENCY": "2",
}


class ModelServer:
    """One server process; graph and tokenizer are built into `cache` once."""

    name = "models"

    def __init__(self, cache: Path, *, port: int, api_key: str, logs: Path, run_dir: Path) -> None:
        self._cache = cache
        self._port = port
        self._api_key = api_key
        self._log = logs / "models.log"
        self._run_dir = run_dir

    @property
    def url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"http://{LOOPBACK}:{self._port}/v1"

    @property
    def tokenizer(self) -> Path:
        """The path of the tokenizer, for EMBEDDING_TOKENIZER."""
        return self._cache / "tokenizer.json"

    @property
    def embedding_settings(self) -> dict[str, str]:
        """The environment variables for the built-in embedding model, besides the URL."""
        return EMBEDDING_SETTINGS | {"EMBEDDING_TOKENIZER": str(self.tokenizer)}

    @property
    def chat_settings(self) -> dict[str, str]:
        """The environment variables for the built-in chat model, besides the URL."""
        return {"CHAT_MODEL": extractive.NAME}

    async def prepare(self) -> Command:
        """Build graph and tokenizer if missing, and return the server's command."""
        self._cache.mkdir(parents=True, exist_ok=True)
        graph = self._cache / GRAPH_NAME
        if not graph.exists():
            # In a separate process, so that the memory of the build is released.
            await run(self._command("graph", "ragsvc.devstack.model_server.minilm_graph", str(graph)), self._run_dir)
        if not self.tokenizer.exists():
            write_tokenizer(self.tokenizer)
        return self._command(self.name, "ragsvc.devstack.model_server.app")

    async def is_ready(self, process: Process) -> bool:  # noqa: ARG002
        """Return whether the model is loaded."""
        return await answers(self._port, "/health")

    def _command(self, name: str, module: str, *arguments: str) -> Command:
        own = {
            "RAGSVC_MODELS_PORT": str(self._port),
            "RAGSVC_MODELS_API_KEY": self._api_key,
            "RAGSVC_MODELS_CACHE": str(self._cache),
        }
        argv = (sys.executable, "-m", module, *arguments)
        return Command(name=name, argv=argv, env=os.environ | own, log=self._log)
