"""Converts all-MiniLM-L6-v2 from safetensors to an ONNX graph, built once and cached."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragsvc.devstack.model_server.minilm_files import check_weights, model_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import NodeProto, TensorProto, ValueInfoProto

LAYERS = 6
HEADS = 12
DIMENSIONS = 384
HEAD_SIZE = DIMENSIONS // HEADS
LAYER_NORM_EPSILON = 1e-12


def write_graph(path: Path) -> None:
    """Build the graph that maps `input_ids` and `attention_mask` (batch, length) to unit vectors (batch, 384)."""
    weights = model_folder() / "model.safetensors"
    check_weights(weights)
    replace_file(path, _Graph(_read_safetensors(weights)).build())


def _read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    header_size = int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8 : 8 + header_size].tobytes())
    body = raw[8 + header_size :]
    return {
        name: body[slice(*entry["data_offsets"])].view("<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


class _Graph:
    """BERT's encoder, mean pooling and normalisation, node by node."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        from onnx import helper, numpy_helper  # noqa: PLC0415  # takes half a second, and only the build needs it

        self._make = helper
        self._tensor = numpy_helper.from_array
        self._weights = weights
        self._constants: dict[str, TensorProto] = {}
        self._nodes: list[NodeProto] = []
        self._names = count()

    def build(self) -> bytes:
        """Return the serialised model."""
        import onnx  # noqa: PLC0415

        mask = self._add("Cast", "attention_mask", to=onnx.TensorProto.FLOAT)
        hidden = self._embed()
        bias = self._attention_bias(mask)
        for layer in range(LAYERS):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, bias=bias)
        self._pool(hidden, mask)
        graph = self._make.make_graph(
            self._nodes,
            "minilm",
            [self._int64_input("input_ids"), self._int64_input("attention_mask")],
            [self._make.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", DIMENSIONS])],
            list(self._constants.values()),
        )
        model = self._make.make_model(graph, opset_imports=[self._make.make_opsetid("", 20)], ir_version=9)
        onnx.checker.check_model(model)
        serialised: bytes = model.SerializeToString()
        return serialised

    def _embed(self) -> str:
        words = self._add("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        length = self._add("Slice", self._add("Shape", "input_ids"), self._ints(1), self._ints(2), self._ints(0))
        positions = self._weight("embeddings.position_embeddings.weight")
        position_embeddings = self._add("Slice", positions, self._ints(0), length, self._ints(0))
        kind = self._constant("first_type", self._weights["embeddings.token_type_embeddings.weight"][0])
        together = self._add("Add", self._add("Add", words, position_embeddings), kind)
        return self._layer_norm("embeddings.LayerNorm", together)

    def _attention_bias(self, mask: str) -> str:
        """Return 0 for tokens and -10000 for padding, in the shape of the attention scores."""
        absent = self._add("Sub", mask, self._constant("one", np.float32(1)))
        bias = self._add("Mul", absent, self._constant("far", np.float32(10_000)))
        return self._add("Unsqueeze", bias, self._ints(1, 2))

    def _layer(self, prefix: str, hidden: str, *, bias: str) -> str:
        attention = f"{prefix}.attention"
        query = self._heads(self._linear(f"{attention}.self.query", hidden), order=[0, 2, 1, 3])
        key = self._heads(self._linear(f"{attention}.self.key", hidden), order=[0, 2, 3, 1])
        value = self._heads(self._linear(f"{attention}.self.value", hidden), order=[0, 2, 1, 3])
        scale = self._constant("scale", np.float32(HEAD_SIZE**-0.5))
        scores = self._add("Mul", self._add("MatMul", query, key), scale)
        shares = self._add("Softmax", self._add("Add", scores, bias), axis=-1)
        seen = self._add("Transpose", self._add("MatMul", shares, value), perm=[0, 2, 1, 3])
        joined = self._add("Reshape", seen, self._ints(0, 0, DIMENSIONS))
        attended = self._add("Add", self._linear(f"{attention}.output.dense", joined), hidden)
        attended = self._layer_norm(f"{attention}.output.LayerNorm", attended)
        inner = self._add("Gelu", self._linear(f"{prefix}.intermediate.dense", attended))
        outer = self._add("Add", self._linear(f"{prefix}.output.dense", inner), attended)
        return self._layer_norm(f"{prefix}.output.LayerNorm", outer)

    def _pool(self, hidden: str, mask: str) -> None:
        masked = self._add("Mul", hidden, self._add("Unsqueeze", mask, self._ints(2)))
        total = self._add("ReduceSum", masked, self._ints(1), keepdims=0)
        # The result is normalised anyway, and the sum has the same direction as the mean.
        length = self._add("ReduceL2", total, self._ints(1), keepdims=1)
        self._nodes.append(self._make.make_node("Div", [total, length], ["embedding"]))

    def _heads(self, hidden: str, *, order: list[int]) -> str:
        return self._add("Transpose", self._add("Reshape", hidden, self._ints(0, 0, HEADS, HEAD_SIZE)), perm=order)

    def _linear(self, name: str, hidden: str) -> str:
        weight = self._constant(f"{name}.weight", np.ascontiguousarray(self._weights[f"{name}.weight"].T))
        return self._add("Add", self._add("MatMul", hidden, weight), self._weight(f"{name}.bias"))

    def _layer_norm(self, name: str, hidden: str) -> str:
        scale, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._add("LayerNormalization", hidden, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _ints(self, *values: int) -> str:
        return self._constant(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def _constant(self, name: str, value: object) -> str:
        if name not in self._constants:
            self._constants[name] = self._tensor(np.asarray(value), name)
        return name

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401  # as onnx accepts them
        output = f"{operator}_{next(self._names)}"
        self._nodes.append(self._make.make_node(operator, list(inputs), [output], **attributes))
        return output

    def _int64_input(self, name: str) -> ValueInfoProto:
        import onnx  # noqa: PLC0415

        return self._make.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "length"])


if __name__ == "__main__":
    write_graph(Path(sys.argv[1]))
