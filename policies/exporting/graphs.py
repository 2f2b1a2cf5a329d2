"""From a policy to files with graphs, for ONNX Runtime or OpenVINO, in full or reduced precision."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from policies.exporting.parts import Named, example
from robot.errors import TongsError, unknown
from robot.exported import ACTIONS, CONFIG, EXPORT_VERSION, LANGUAGE, STATISTICS, TOKENIZER, require_backend

if TYPE_CHECKING:
    from policies.base import PolicyModule

PRECISIONS = {"onnx": ("fp32", "int8", "int4"), "openvino": ("fp32", "bf16", "int8", "int4")}
OPSET = 18
WEIGHTED = ("Conv", "MatMul", "Gemm")
SMALLEST = 1024
"""Weights of fewer numbers stay as they are."""

BLOCK = 32
"""Weights that share a scale with int4."""


@dataclass(frozen=True)
class Request:
    """What an export is to be.

    Attributes:
        backend, precision: see `PRECISIONS`.
        keep: modules that do not get this precision, by their names in `modules`: with int4 they get int8, with
            int8 they stay as they are.
        calibration: inputs of the actions' graph, by name, as recorded; with them int8 puts activations into eight bits
            too, with scales fixed by what is seen here. Empty leaves activations as they are.
    """

    backend: str
    precision: str
    keep: tuple[str, ...] = ()
    calibration: Sequence[Mapping[str, NDArray]] = field(default=(), repr=False)


def require_precision(backend: str, precision: str) -> None:
    """Raise a TongsError unless the backend is installed and has such a precision."""
    require_backend(backend)
    if precision not in PRECISIONS[backend]:
        raise unknown(f"precision of backend {backend}", precision, PRECISIONS[backend])
    for package in ("onnx", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise TongsError(
                f"an export needs {package}, which is not installed; pip install 'tongs[export]'"
            ) from error


def trace(policy: PolicyModule, folder: Path) -> None:
    """Write both graphs in full precision, as ONNX.

    Raises:
        TongsError: the policy cannot be exported, or torch cannot trace it.
    """
    parts, spec = policy.exported(), policy.spec
    chunk = (spec.horizon, spec.action_space.dimension)
    named = Named(parts.actions, tuple(spec.cameras), parts.noise).eval()
    inputs = example(spec.cameras, len(spec.state_names), chunk, parts.noise)
    ids = torch.ones(1, 7, dtype=torch.long)
    with torch.no_grad(), _quiet():
        told = parts.language(ids)
        inputs.insert(len(spec.cameras) + 1, told)
        named(*inputs)  # whatever is found out at the first call is found out now
        dynamic = {"language": {1: "words"}} if told.shape[1] == ids.shape[1] else {}
        try:
            _export(parts.language, (ids,), folder / f"{LANGUAGE}.onnx", ["ids"], {"ids": {1: "words"}})
            _export(named, tuple(inputs), folder / f"{ACTIONS}.onnx", named.names, dynamic)
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise TongsError(f"torch cannot trace this policy: {str(error).splitlines()[0]}") from error
    for name in (LANGUAGE, ACTIONS):
        _tidy(folder / f"{name}.onnx")
    (folder / TOKENIZER).write_text(parts.words.tokenizer, encoding="utf-8")
    header = {
        "format_version": 1,
        "policy": policy.family,
        "trained_on": policy.trained_on,
        "spec": spec.to_json(),
        "exported": {
            "version": EXPORT_VERSION,
            "backend": "onnx",
            "precision": "fp32",
            "noise": parts.noise,
            "words": parts.words.to_json(),
        },
    }
    write_header(folder, header)
    (folder / STATISTICS).write_text(json.dumps(policy.statistics, indent=1) + "\n", encoding="utf-8")


def modules(traced: Path) -> list[str]:
    """The modules that hold weights to be quantised: "language", and parts of the actions' graph."""
    return [LANGUAGE, *dict.fromkeys(_module(node.name) for node in _weighted(traced / f"{ACTIONS}.onnx"))]


def convert(traced: Path, request: Request, folder: Path) -> None:
    """The traced graphs as `request` wants them, into an empty folder.

    Raises:
        TongsError: the backend cannot.
    """
    for name in (TOKENIZER, STATISTICS):
        shutil.copy(traced / name, folder / name)
    header = json.loads((traced / CONFIG).read_text(encoding="utf-8"))
    header["exported"] |= {
        "backend": request.backend,
        "precision": request.precision,
        "kept": list(request.keep),
        "activations": bool(request.calibration),
    }
    write_header(folder, header)
    with _quiet():
        for name in (LANGUAGE, ACTIONS):
            source, target = traced / f"{name}.onnx", folder / f"{name}.onnx"
            kept = {
                node.name
                for node in _weighted(source)
                if (LANGUAGE if name == LANGUAGE else _module(node.name)) in request.keep
            }
            if request.precision == "int8" and request.calibration and name == ACTIONS:
                _calibrated(source, target, request.calibration, sorted(kept))
            elif request.precision == "int8":
                _eight_bits(source, target, kept)
            elif request.precision == "int4":
                _four_bits(source, target, kept)
            else:
                shutil.copy(source, target)
            if request.backend == "openvino":
                import openvino

                openvino.save_model(openvino.convert_model(str(target)), str(folder / f"{name}.xml"), False)
                target.unlink()


def write_header(folder: Path, header: Mapping[str, Any]) -> None:
    (folder / CONFIG).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")


def put_in_place(written: Path, folder: Path) -> None:
    """Move a finished export to its folder; an earlier export there is replaced, anything else is not.

    Raises:
        TongsError: the folder holds something else.
    """
    from robot.exported import is_export

    if folder.exists() and not is_export(folder) and any(folder.iterdir()):
        raise TongsError(f"{folder} exists and is not an export; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    earlier = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    if folder.exists():
        os.replace(folder, earlier)
    os.replace(written, folder)
    shutil.rmtree(earlier, ignore_errors=True)


def _export(module: torch.nn.Module, inputs: tuple, file: Path, names: list[str], dynamic: dict) -> None:
    torch.onnx.export(
        module,
        inputs,
        str(file),
        input_names=names,
        output_names=["result"],
        dynamic_axes=dynamic,
        opset_version=OPSET,
        dynamo=False,  # the tracer bakes in what Python computes, such as noise levels; the new one refuses them
    )


def _weighted(file: Path) -> list[Any]:
    """Matrix products and convolutions of a graph whose weights are fixed."""
    import onnx

    graph = onnx.load(file).graph
    fixed = {entry.name for entry in graph.initializer}
    return [node for node in graph.node if node.op_type in WEIGHTED and fixed & set(node.input[1:2])]


def _module(node: str) -> str:
    """/policy/beso/score_transformer/blocks.0/... is of score_transformer; the policy's own name says nothing."""
    parts = [part for part in node.split("/") if part not in ("", "policy", "beso", "vla", "network")]
    return parts[0].partition(".")[0] if len(parts) > 1 else "rest"


def _eight_bits(source: Path, target: Path, kept: set[str]) -> None:
    """Weights in int8 with a scale for each output; a runtime may make floats of them when it loads them."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    fixed = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    words = {node.input[0] for node in model.graph.node if node.op_type == "Gather" and node.input[0] in fixed}
    chosen = {}
    for node in model.graph.node:
        if node.op_type in WEIGHTED and node.input[1] in fixed and node.name not in kept:
            chosen[node.input[1]] = _output_axis(node, fixed[node.input[1]].ndim)
    chosen |= {name: 0 for name in words if fixed[name].ndim == 2 and fixed[name].dtype == np.float32 and not kept}
    chosen = {name: axis for name, axis in chosen.items() if fixed[name].size >= SMALLEST}
    stored = [onnx.TensorProto.FromString(entry.SerializeToString()) for entry in model.graph.initializer]
    stored = [entry for entry in stored if entry.name not in chosen]
    before = []
    for name, axis in chosen.items():
        weight = fixed[name]
        others = tuple(number for number in range(weight.ndim) if number != axis)
        scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True), 1e-12) / 127
        stored += [
            numpy_helper.from_array(np.round(weight / scale).astype(np.int8), f"{name}_int8"),
            numpy_helper.from_array(scale.reshape(-1).astype(np.float32), f"{name}_scale"),
        ]
        inputs = [f"{name}_int8", f"{name}_scale"]
        before.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_float", axis=axis))
    nodes = [*before, *(onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node)]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(stored)
    model.graph.node.extend(nodes)
    onnx.save(model, target)


def _output_axis(node: Any, axes: int) -> int:
    if node.op_type == "Conv":
        return 0
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else axes - 1


def _calibrated(source: Path, target: Path, calibration: Sequence[Mapping[str, NDArray]], kept: list[str]) -> None:
    """Weights and activations in eight bits, with the scales of activations that recorded inputs ask for."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._rows = iter(calibration)

        def get_next(self) -> Any:
            return next(self._rows, None)

    quantization.quantize_static(
        source,
        target,
        Reader(),
        op_types_to_quantize=list(WEIGHTED),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=kept,
        extra_options={"MatMulConstBOnly": True},
    )


def _four_bits(source: Path, target: Path, kept: set[str]) -> None:
    """Weights of matrix products in blocks of int4, multiplied by activations in int8; all other weights in int8."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        onnx.load(source), block_size=BLOCK, is_symmetric=False, accuracy_level=4, nodes_to_exclude=sorted(kept)
    )
    quantizer.process()
    onnx.save(quantizer.model.model, target)  # type: ignore[union-attr]
    _tidy(target)  # every step of an unrolled loop has got a copy of its own
    _eight_bits(target, target, set())


def _tidy(file: Path) -> None:
    """Use a weight under one name and store it once; the tracer gives the steps of a loop names of their own."""
    import onnx

    model = onnx.load(file)
    first: dict[bytes, str] = {}
    names: dict[str, str] = {}
    stored = []
    for entry in model.graph.initializer:
        unnamed = onnx.TensorProto.FromString(entry.SerializeToString())
        unnamed.ClearField("name")
        name = str(entry.name)
        names[name] = first.setdefault(unnamed.SerializeToString(), name)
        if names[name] == name:
            stored.append(onnx.TensorProto.FromString(entry.SerializeToString()))
    nodes = []
    results = {entry.name for entry in model.graph.output}
    for node in model.graph.node:
        inputs = [names.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.input[0] in names and node.output[0] not in results:
            names[node.output[0]] = inputs[0]
            continue
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        del copy.input[:]
        copy.input.extend(inputs)
        nodes.append(copy)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(stored)
    model.graph.node.extend(nodes)
    onnx.save(model, file)


@contextmanager
def _quiet():
    """Exporters warn of shapes that are fixed on purpose."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
