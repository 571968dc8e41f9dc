"""As much of NVIDIA Triton as a model repository needs to be checked and run: its rules, ensembles, two backends."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort

TYPES = {
    "TYPE_STRING": np.object_,
    "TYPE_UINT8": np.uint8,
    "TYPE_BOOL": np.bool_,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
}
# Fields of `ModelConfig` in model_config.proto that a repository of ours may use.
FIELDS = {
    *("name", "platform", "backend", "version_policy", "max_batch_size", "input", "output"),
    *("instance_group", "dynamic_batching", "ensemble_scheduling"),
}
FILES = {"onnxruntime": "model.onnx", "python": "model.py"}
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\w.+-]+|[{}\[\]:,])')


def read_pbtxt(text: str) -> dict[str, Any]:
    """A protobuf message in text format; a field that stands several times, or in brackets, is a list."""
    tokens = _TOKEN.findall(text)
    assert "".join(tokens) == re.sub(r'\s+(?=(?:[^"]*"[^"]*")*[^"]*$)', "", text), "something is no token"
    message, rest = _message(tokens)
    assert rest == []
    return message


def _message(tokens: list[str]) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    while tokens and tokens[0] != "}":
        name, tokens = tokens[0], tokens[1:]
        if tokens[0] == ":":
            tokens = tokens[1:]
        value, tokens = _value(tokens)
        if name in found:
            before = found[name] if isinstance(found[name], list) else [found[name]]
            value = [*before, *(value if isinstance(value, list) else [value])]
        found[name] = value
        tokens = tokens[1:] if tokens[:1] == [","] else tokens
    return found, tokens


def _value(tokens: list[str]) -> tuple[Any, list[str]]:
    first, tokens = tokens[0], tokens[1:]
    if first == "{":
        message, tokens = _message(tokens)
        assert tokens[0] == "}"
        return message, tokens[1:]
    if first == "[":
        values = []
        while tokens[0] != "]":
            value, tokens = _value(tokens)
            values.append(value)
            assert tokens[0] in (",", "]")
            tokens = tokens[1:] if tokens[0] == "," else tokens
        return values, tokens[1:]
    if first.startswith('"'):
        return first[1:-1], tokens
    return (int(first) if re.fullmatch(r"-?\d+", first) else first), tokens


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Tensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._values


class TritonError(Exception):
    pass


class Response:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        self.tensors, self.error = output_tensors, error


def backend_module() -> ModuleType:
    """The module that Triton gives Python backends."""
    module = ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse, module.TritonError = Tensor, Response, TritonError  # type: ignore[attr-defined]
    module.get_input_tensor_by_name = lambda request, name: request[name]  # type: ignore[attr-defined]
    return module


class Server:
    """Loads every model of a repository, by Triton's rules of layout, and runs it.

    Args:
        repository: Path of the repository.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.configs: dict[str, dict[str, Any]] = {}
        self.run: dict[str, Any] = {}
        for folder in sorted(repository.iterdir()):
            config = read_pbtxt((folder / "config.pbtxt").read_text("utf-8"))
            assert config["name"] == folder.name and config.keys() <= FIELDS
            versions = [int(each.name) for each in folder.iterdir() if each.name.isdigit() and each.name[0] != "0"]
            assert versions, "a model has a version at least"
            self.configs[folder.name] = config
            for each in (*many(config["input"]), *many(config["output"])):
                assert each["data_type"] in TYPES and each["dims"] and all(side != 0 for side in many(each["dims"]))
            newest = folder / str(max(versions))
            if config.get("platform") == "ensemble":
                assert "instance_group" not in config and "backend" not in config
                continue
            assert (newest / FILES[config["backend"]]).is_file()
            assert config["instance_group"][0]["count"] >= 1
            assert "dynamic_batching" not in config or config["max_batch_size"] > 0
            self.run[folder.name] = self._python(newest) if config["backend"] == "python" else self._graph(newest)
        for name, config in self.configs.items():
            if "ensemble_scheduling" in config:
                self._check_ensemble(name, config)

    def _python(self, folder: Path) -> Any:
        spec = importlib.util.spec_from_file_location(f"model_{abs(hash(folder))}", folder / "model.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["triton_python_backend_utils"] = backend_module()
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        model.initialize({"model_name": folder.parent.name, "model_version": folder.name})

        def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            (response,) = model.execute([{name: Tensor(name, values) for name, values in given.items()}])
            if response.error is not None:
                raise response.error
            return {each.name(): each.as_numpy() for each in response.tensors}

        return run

    def _graph(self, folder: Path) -> Any:
        session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        names = [each["name"] for each in many(self.configs[folder.parent.name]["output"])]
        return lambda given: dict(zip(names, session.run(names, given), strict=True))

    def _check_ensemble(self, name: str, config: dict[str, Any]) -> None:
        known = {each["name"]: each for each in many(config["input"])}
        for step in many(config["ensemble_scheduling"]["step"]):
            model = self.configs[step["model_name"]]
            assert (model["max_batch_size"] > 0) == (config["max_batch_size"] > 0)
            assert model["max_batch_size"] >= config["max_batch_size"]
            inputs = {each["name"]: each for each in many(model["input"])}
            outputs = {each["name"]: each for each in many(model["output"])}
            assert {each["key"] for each in many(step["input_map"])} == inputs.keys()
            for each in many(step["input_map"]):
                given, taken = known[each["value"]], inputs[each["key"]]
                assert (given["data_type"], given["dims"]) == (taken["data_type"], taken["dims"])
            for each in many(step["output_map"]):
                known[each["value"]] = outputs[each["key"]]
        for each in many(config["output"]):
            made = known[each["name"]]
            assert (made["data_type"], made["dims"]) == (each["data_type"], each["dims"])

    def infer(self, name: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a model or an ensemble; every tensor is checked against the configurations."""
        config = self.configs[name]
        self._check(config, "input", given)
        if "ensemble_scheduling" in config:
            tensors = dict(given)
            for step in many(config["ensemble_scheduling"]["step"]):
                taken = {each["key"]: tensors[each["value"]] for each in many(step["input_map"])}
                made = self.infer(step["model_name"], taken)
                tensors |= {each["value"]: made[each["key"]] for each in many(step["output_map"])}
            out = {each["name"]: tensors[each["name"]] for each in many(config["output"])}
        else:
            out = self.run[name](given)
        self._check(config, "output", out)
        return out

    def _check(self, config: dict[str, Any], side: str, tensors: dict[str, np.ndarray]) -> None:
        stated = {each["name"]: each for each in many(config[side])}
        assert stated.keys() == tensors.keys()
        for name, values in tensors.items():
            assert values.dtype == TYPES[stated[name]["data_type"]], name
            shape = values.shape
            if config["max_batch_size"] > 0:
                assert 1 <= shape[0] <= config["max_batch_size"], name
                shape = shape[1:]
            dims = many(stated[name]["dims"])
            assert len(shape) == len(dims) and all(
                want in (-1, have) for want, have in zip(dims, shape, strict=True)
            ), name
