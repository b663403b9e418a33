"""The programs that run an ONNX file on a CPU: OpenVINO, or onnxruntime. No TensorFlow."""

import dataclasses
import functools
import importlib.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.runtime import light_imports, processor
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference.sliding_window import SlabModel

# The first that is installed is taken. OpenVINO is about twice as fast, and knows bfloat16.
PROGRAMS = ("openvino", "onnxruntime")
INPUTS = ("image", "nihss")
ROUNDING = 1e-6
STREAMS = 4
"""Slabs that OpenVINO computes side by side, each on its share of the cores, where there are so
many cores: two of one core each take 0.88 of the time of one on both."""
MEAN = "probability"
"""The output that is the average of a file's networks."""
CORE = "core"
"""The output that is the average of their cores, in a file whose networks all have one."""


@dataclasses.dataclass(frozen=True)
class LoadedModel(SlabModel):
    """A model that answers slabs, and what it is run by.

    Attributes:
        runtime: the program that runs it, with its version.
        precision: of its arithmetic.
    """

    runtime: str
    precision: str


def installed() -> list[str]:
    """The programs that are installed, the fastest first."""
    return [name for name in PROGRAMS if importlib.util.find_spec(name) is not None]


class NoProgramError(InputError):
    """Nothing is installed that runs ONNX files."""


def load(
    path: Path,
    program: str | None = None,
    precision: str = "float32",
    *,
    outputs: Sequence[str] = (),
) -> LoadedModel:
    """A predictor that runs an ONNX file, with a channel for each of its networks and, where the
    file has one, one of their core.

    Args:
        path: of the file.
        program: one of :data:`PROGRAMS`; None takes the first that is installed.
        precision: ``float32`` or ``bfloat16``. Where program or processor do not multiply
            bfloat16 it is float32 all the same; the answer says which it was.
        outputs: that are asked for; none takes each network's, and the core.

    Raises:
        NoProgramError: the program, or any, is not installed.
        ValueError: no ONNX file, or that of another network.
    """
    for name in [program] if program else PROGRAMS:
        try:
            return _STARTS[name](path, precision, outputs)
        except (ImportError, OSError):  # not installed, or for another machine
            continue
        except ValueError:
            raise
        except Exception as error:  # each program has errors of its own
            raise ValueError(f"{name} cannot read it as an ONNX file") from error
    if program:
        raise NoProgramError(f"{path}: {program} cannot be started here; install {program}")
    raise NoProgramError(
        f"{path}: neither {' nor '.join(PROGRAMS)} can be started here; install openvino"
    )


def _openvino(path: Path, precision: str, outputs: Sequence[str]) -> LoadedModel:
    openvino = _import_openvino()
    core = _core()
    model = core.read_model(str(path))
    ports = {port.get_any_name(): port for port in model.outputs}
    wanted = outputs or _wanted([port.get_any_name() for port in model.inputs], list(ports))
    # It computes every output there is; the average of all is for others.
    model = openvino.Model([ports[name] for name in wanted], model.get_parameters())
    # Slab by slab: several at once are no faster on a CPU and take the memory of each.
    model.reshape({port.get_any_name(): [1, *port.partial_shape[1:]] for port in model.inputs})
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precision = precision if able else "float32"
    threads = _threads()
    hints = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "NUM_STREAMS": min(STREAMS, threads),
        # A process that has some cores only would take the first, as every other such one.
        "ENABLE_CPU_PINNING": threads == processor.cores(),
    }
    compiled = core.compile_model(model, "CPU", hints)
    queue, lock = openvino.AsyncInferQueue(compiled), threading.Lock()

    def run(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = np.empty((*image.shape[:-1], len(wanted)), np.float32)

        def keep(request: Any, slab: int) -> None:
            for channel, name in enumerate(wanted):
                answer[slab, ..., channel] = request.get_tensor(name).data[0, ..., 0]

        with lock:
            queue.set_callback(keep)
            for slab in range(len(image)):
                queue.start_async(_inputs(image[slab:][:1], nihss[slab:][:1]), slab)
            queue.wait_all()
        return answer

    runtime = f"openvino {openvino.__version__.split('-')[0]}"
    return LoadedModel(run, runtime, precision, cores=_with_core(wanted))


@functools.cache
def _core() -> Any:
    """OpenVINO's one core of this process, for as long as the process lives.

    The first gives the thread that made it another stack for signals. Taken down in another thread,
    the stack is gone and the thread does not know: the next signal would end the process.
    """
    return _import_openvino().Core()


def _threads() -> int:
    """Cores to use: all, or fewer where ``OMP_NUM_THREADS`` says so.

    Schedulers of clusters and our own worker processes set it, and numpy's libraries heed it.
    """
    said, cores = os.environ.get("OMP_NUM_THREADS", ""), processor.cores()
    return min(int(said), cores) if said.isdigit() and int(said) else cores


def _import_openvino() -> Any:
    """The package without its converter, which tells its makers over the network of each import.

    We convert nothing with it, and a program that has patients' images in hand calls nobody.
    """
    with light_imports.without("openvino.tools.ovc"):
        import openvino
    return openvino


def _onnxruntime(path: Path, _: str, outputs: Sequence[str]) -> LoadedModel:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = outputs or _wanted(
        [value.name for value in session.get_inputs()],
        [value.name for value in session.get_outputs()],
    )

    def run(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = np.concatenate(session.run(list(wanted), _inputs(image, nihss)), axis=-1)
        # Its sigmoid ends a rounding error above 1; more than that is no probability.
        answer[(answer > 1) & (answer <= 1 + ROUNDING)] = 1
        return answer

    runtime = f"onnxruntime {onnxruntime.__version__}"
    return LoadedModel(run, runtime, "float32", cores=_with_core(wanted))


_STARTS = {"openvino": _openvino, "onnxruntime": _onnxruntime}


def _inputs(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> dict[str, Any]:
    values = zip(INPUTS, (image, nihss), strict=True)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in values}


def of_network(number: int) -> str:
    """The output of one of several networks.

    Args:
        number: from 0.
    """
    return f"{MEAN}_{number}"


def _wanted(inputs: Sequence[str], outputs: Sequence[str]) -> Sequence[str]:
    """Which outputs are each network's, then that of the core if there is one.

    Raises:
        ValueError: it is another network.
    """
    if sorted(inputs) != sorted(INPUTS) or MEAN not in outputs:
        known = ", ".join((*inputs, *outputs))
        raise ValueError(
            f"another network: its inputs and outputs are {known}; ours are image, nihss and {MEAN}"
        )
    core = [CORE] if CORE in outputs else []
    each = [of_network(number) for number in range(len(outputs) - len(core) - 1)]
    return [*(each if each and set(each) < set(outputs) else [MEAN]), *core]


def _with_core(outputs: Sequence[str]) -> bool:
    """Whether the last of several outputs is the core's."""
    return len(outputs) > 1 and outputs[-1] == CORE
