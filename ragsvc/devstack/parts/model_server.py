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

# What the service has to know of MiniLM; a little room is left for what a chunk's input carries besides its text.
EMBEDDING_SETTINGS = {
    "EMBEDDING_MODEL": "all-MiniLM-L6-v2",
    "EMBEDDING_DIMENSIONS": "384",
    "EMBEDDING_MAX_INPUT_TOKENS": "256",
    "CHUNK_MAX_TOKENS": "240",
    "CHUNK_OVERLAP_TOKENS": "32",
    # Some 17 texts a second and core: the calls of four documents at once have to end within MODEL_TIMEOUT_S on a
    # machine that is busy with other things too.
    "EMBEDDING_BATCH_SIZE": "16",
    "EMBEDDING_CONCURRENCY": "2",
}


class ModelServer:
    """One server process; graph and tokenizer are built into `cache` the first time."""

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
        """The tokenizer's file, as EMBEDDING_TOKENIZER wants it."""
        return self._cache / "tokenizer.json"

    @property
    def settings(self) -> dict[str, str]:
        """What the service's environment has to say to use this server."""
        return EMBEDDING_SETTINGS | {"CHAT_MODEL": extractive.NAME, "EMBEDDING_TOKENIZER": str(self.tokenizer)}

    async def prepare(self) -> Command:
        """Build graph and tokenizer unless they are there, and return the server's command."""
        self._cache.mkdir(parents=True, exist_ok=True)
        graph = self._cache / GRAPH_NAME
        if not graph.exists():
            # In a process of its own: what building takes of memory is given back.
            await run(self._command("graph", "ragsvc.devstack.model_server.minilm_graph", str(graph)), self._run_dir)
        if not self.tokenizer.exists():
            write_tokenizer(self.tokenizer)
        return self._command(self.name, "ragsvc.devstack.model_server.app")

    async def is_ready(self, process: Process) -> bool:  # noqa: ARG002
        """Tell whether the model is in memory."""
        return await answers(self._port, "/health")

    def _command(self, name: str, module: str, *arguments: str) -> Command:
        own = {
            "RAGSVC_MODELS_PORT": str(self._port),
            "RAGSVC_MODELS_API_KEY": self._api_key,
            "RAGSVC_MODELS_CACHE": str(self._cache),
        }
        argv = (sys.executable, "-m", module, *arguments)
        return Command(name=name, argv=argv, env=os.environ | own, log=self._log)
