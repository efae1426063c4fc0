"""Every name of TensorRT that the kiosk uses is there from 8.2 to 11, or is asked for first."""

import ast
import json
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

from tests import ROOT, shared

# What the code calls an object, and its class in TensorRT.
OBJECTS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "logger": "ILogger",
}
FILES = [
    "engines/backends/tensorrt.py",
    "engines/plans/builder.py",
    "engines/plans/report.py",
    "engines/plans/cache.py",
    "engines/plugin/__init__.py",
]
# Names that some version lacks, and the text in the same file that asks for it, or for what stands for it.
GUARDS: Dict[str, str] = {
    "BuilderFlag.FP16": 'hasattr(trt.BuilderFlag, "FP16")',
    "BuilderFlag.INT8": 'hasattr(trt.BuilderFlag, "FP16")',
    "Builder.platform_has_fast_fp16": 'hasattr(trt.BuilderFlag, "FP16")',
    "IInt8EntropyCalibrator2.__init__": 'hasattr(config, "int8_calibrator")',
    "IInt8EntropyCalibrator2": 'hasattr(config, "int8_calibrator")',
    "IBuilderConfig.int8_calibrator": 'hasattr(config, "int8_calibrator")',
    "IBuilderConfig.set_calibration_profile": 'hasattr(config, "int8_calibrator")',
    "IBuilderConfig.set_memory_pool_limit": 'hasattr(config, "set_memory_pool_limit")',
    "IBuilderConfig.max_workspace_size": 'hasattr(config, "set_memory_pool_limit")',
    "MemoryPoolType": 'hasattr(config, "set_memory_pool_limit")',
    "MemoryPoolType.WORKSPACE": 'hasattr(config, "set_memory_pool_limit")',
    "TensorIOMode": 'hasattr(self.engine, "num_io_tensors")',
    "TensorIOMode.INPUT": 'hasattr(self.engine, "num_io_tensors")',
    "IPluginRegistry.get_creator": 'hasattr(registry, "get_creator")',
    "IPluginRegistry.get_plugin_creator": 'hasattr(registry, "get_creator")',
}
BY_NAME = (
    "num_io_tensors",
    "get_tensor_name",
    "get_tensor_shape",
    "get_tensor_dtype",
    "get_tensor_mode",
    "get_tensor_profile_shape",
    "set_input_shape",
    "set_tensor_address",
    "execute_async_v3",
)
BY_INDEX = (
    "num_bindings",
    "get_binding_name",
    "get_binding_shape",
    "get_binding_dtype",
    "binding_is_input",
    "get_profile_shape",
    "set_binding_shape",
    "execute_async_v2",
)
# Of 8.2, whose Python module is not to be had: 8.4's names but these (tensorrt.md, the C++ header of 8.2.1).
NOT_IN_8_2 = {"IBuilderConfig.set_memory_pool_limit", "MemoryPoolType", "MemoryPoolType.WORKSPACE"}


def used(path: Path) -> Iterator[Tuple[str, int]]:
    """Names of TensorRT in a file, as Class.member, and their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Attribute):
            continue
        chain: List[str] = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            chain.insert(0, value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            chain.insert(0, value.id)
        owner = chain[-2].lstrip("_") if len(chain) > 1 else ""
        if chain[0] == "trt" and len(chain) > 1 and "__version__" not in chain:
            yield ".".join(chain[1:]), node.lineno
        elif owner in OBJECTS and chain[-1] not in ("reason",):
            yield "{}.{}".format(OBJECTS[owner], chain[-1]), node.lineno
        elif owner == "registry":
            yield "IPluginRegistry." + chain[-1], node.lineno


def test_every_name_is_in_every_version_or_asked_for() -> None:
    table = json.loads(shared("tensorrt/api_names.json").read_text(encoding="utf-8"))
    everywhere: Set[str] = {name for name, there in table["names"].items() if "0" not in there} - NOT_IN_8_2
    wrong, seen = [], set()
    for file in FILES:
        text = (ROOT / file).read_text(encoding="utf-8")
        for name, line in used(ROOT / file):
            seen.add(name)
            if name in everywhere:
                continue
            where = "{}:{}: {}".format(file, line, name)
            member = name.split(".")[-1]
            if name not in table["names"]:
                wrong.append(where + " is in no version")
            elif member in BY_NAME or member in BY_INDEX:
                if not _in_class(text, line, "_Named" if member in BY_NAME else "_Indexed"):
                    wrong.append(where + " is used outside its class")
            elif GUARDS.get(name, "\0") not in text:
                wrong.append(where + " is not in every version, and nothing asks for it")
    assert not wrong, "\n".join(wrong)
    assert {
        "BuilderFlag.FP16",
        "ICudaEngine.get_binding_name",
        "IExecutionContext.execute_async_v3",
        "IPluginRegistry.get_creator",
        "Builder.build_serialized_network",
    } <= seen


def _in_class(text: str, line: int, name: str) -> bool:
    """Whether a line lies in the class `name`, or in the test that chooses it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name == name and node.lineno <= line <= _last(node):
            return True
    return 'hasattr(self.engine, "num_io_tensors")' in text.splitlines()[line - 1]


def _last(node: ast.AST) -> int:
    return max(getattr(one, "lineno", 0) for one in ast.walk(node))
