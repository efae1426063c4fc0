"""The module tensorrt without a GPU: 8.2, 8.5, 10 and 11, each with what that version has and no more.

Plans are ONNX files that ONNX Runtime runs. What it insists on is what TensorRT insists on: an explicit
batch to 8, profiles for free axes, shapes within them, an address for each tensor, the plugin before a
graph that uses it, plans of the same version. It complains as TensorRT does: a None or a False, and a
line to the logger. `install` puts it, with the double of pycuda, where this process and the builder's
will import it.
"""

import enum
import os
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

from tests import ROOT
from tests.doubles import tensorrt_build as build
from tests.doubles import tensorrt_run as run
from tests.doubles.tensorrt_build import BROKEN, PLUGIN  # noqa: F401  (for the tests)

VERSIONS = {"8.2": "8.2.1.8", "8.5": "8.5.3.1", "10": "10.3.0", "11": "11.4.0.106"}
# Which of the four flavours have a name; those not listed are in all of them.
NAMES: Dict[str, Tuple[str, ...]] = {
    "BuilderFlag.FP16": ("8.2", "8.5", "10"),
    "BuilderFlag.INT8": ("8.2", "8.5", "10"),
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": ("8.2", "8.5", "10"),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": ("10", "11"),
    "TacticSource.CUBLAS": ("8.2", "8.5", "10"),
    "TacticSource.CUBLAS_LT": ("8.2", "8.5", "10"),
    "TacticSource.CUDNN": ("8.2", "8.5", "10"),
    "TacticSource.EDGE_MASK_CONVOLUTIONS": ("8.5", "10", "11"),
    "MemoryPoolType": ("8.5", "10", "11"),
    "TensorIOMode": ("8.5", "10", "11"),
    "DataType.UINT8": ("8.5", "10", "11"),
    "DataType.INT64": ("10", "11"),
    "IInt8EntropyCalibrator2": ("8.2", "8.5", "10"),
    "Builder.platform_has_fast_fp16": ("8.2", "8.5", "10"),
    "IBuilderConfig.max_workspace_size": ("8.2", "8.5"),
    "IBuilderConfig.set_memory_pool_limit": ("8.5", "10", "11"),
    "IBuilderConfig.int8_calibrator": ("8.2", "8.5", "10"),
    "IBuilderConfig.set_calibration_profile": ("8.2", "8.5", "10"),
    "ICudaEngine.num_bindings": ("8.2", "8.5"),
    "ICudaEngine.get_binding_name": ("8.2", "8.5"),
    "ICudaEngine.get_binding_shape": ("8.2", "8.5"),
    "ICudaEngine.get_binding_dtype": ("8.2", "8.5"),
    "ICudaEngine.binding_is_input": ("8.2", "8.5"),
    "ICudaEngine.get_profile_shape": ("8.2", "8.5"),
    "ICudaEngine.num_io_tensors": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_name": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_shape": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_dtype": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_mode": ("8.5", "10", "11"),
    "ICudaEngine.get_tensor_profile_shape": ("8.5", "10", "11"),
    "IExecutionContext.set_binding_shape": ("8.2", "8.5"),
    "IExecutionContext.get_binding_shape": ("8.2", "8.5"),
    "IExecutionContext.execute_async_v2": ("8.2", "8.5"),
    "IExecutionContext.set_input_shape": ("8.5", "10", "11"),
    "IExecutionContext.get_tensor_shape": ("8.5", "10", "11"),
    "IExecutionContext.set_tensor_address": ("8.5", "10", "11"),
    "IExecutionContext.execute_async_v3": ("8.5", "10", "11"),
    "IPluginRegistry.get_plugin_creator": ("8.2", "8.5", "10"),
    "IPluginRegistry.get_creator": ("10", "11"),
}
MEMBERS = {
    "BuilderFlag": ("FP16", "INT8", "TF32"),
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "TacticSource": ("CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS"),
    "MemoryPoolType": ("WORKSPACE",),
    "TensorIOMode": ("NONE", "INPUT", "OUTPUT"),
    "DataType": ("FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "INT64"),
    "ProfilingVerbosity": ("LAYER_NAMES_ONLY", "NONE", "DETAILED"),
    "LayerInformationFormat": ("ONELINE", "JSON"),
}


def install(folder: Path, monkeypatch: Any, flavour: str, plugin: bool = True) -> None:
    """Make `import tensorrt` and `import pycuda.driver` find the doubles, here and in child processes."""
    (folder / "pycuda").mkdir(parents=True, exist_ok=True)
    (folder / "pycuda" / "__init__.py").write_text("")
    (folder / "pycuda" / "driver.py").write_text(
        "import sys\nfrom tests.doubles import pycuda\nsys.modules[__name__] = pycuda\n"
    )
    (folder / "tensorrt.py").write_text(
        "from tests.doubles import tensorrt\nglobals().update(tensorrt.module({!r}))\n".format(flavour)
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv(PLUGIN, "1" if plugin else "0")
    for name in ("tensorrt", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)  # so that afterwards it is as it was, or away
        monkeypatch.delitem(sys.modules, name)


def module(flavour: str) -> Dict[str, Any]:
    """The names of the module tensorrt in that flavour."""
    made: Dict[str, Any] = {"__version__": VERSIONS[flavour]}
    for name, members in MEMBERS.items():
        if _has(flavour, name):
            there = [one for one in members if _has(flavour, name + "." + one)]
            made[name] = enum.IntEnum(name, [(one, at) for at, one in enumerate(there)])
    for kind in (
        build.ILogger,
        build.Builder,
        build.INetworkDefinition,
        build.OnnxParser,
        build.IBuilderConfig,
        build.IOptimizationProfile,
        run.Runtime,
        run.ICudaEngine,
        run.IExecutionContext,
        build.IPluginRegistry,
        build.IInt8EntropyCalibrator2,
        build.ITimingCache,
        build.IHostMemory,
        run.EngineInspector,
    ):
        if _has(flavour, kind.__name__):
            body = {
                key: value
                for key, value in vars(kind).items()
                if _has(flavour, kind.__name__ + "." + key) and key not in ("__dict__", "__weakref__")
            }
            made[kind.__name__] = type(kind.__name__, kind.__bases__, dict(body, trt=made))
    made["get_plugin_registry"] = made["IPluginRegistry"]
    made["init_libnvinfer_plugins"] = lambda logger, namespace: True
    return made


def _has(flavour: str, name: str) -> bool:
    return flavour in NAMES.get(name, tuple(VERSIONS))
