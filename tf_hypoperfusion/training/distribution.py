"""Which ``tf.distribute`` strategy, what a global batch is on it, and who writes."""

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from data_tools.runtime.errors import InputError
from data_tools.runtime.tensorflow_start import counted_alone
from tf_hypoperfusion.model.keras_compat import IS_KERAS_3

STRATEGIES = ("mirrored", "multiworker")
# Jobs that share a node must not share a port.
SLURM_PORT, SLURM_PORTS = 12_000, 20_000


def choose_strategy(
    kind: str = "mirrored", devices: Sequence[str] | None = None
) -> tf.distribute.Strategy:
    """Make a strategy; call it before anything else of TensorFlow runs.

    Args:
        kind: ``mirrored``: over the visible GPUs, or one CPU where there is none.
            ``multiworker``: over processes, one a machine, which find each other by TF_CONFIG or
            by SLURM's variables.
        devices: for ``mirrored``: names to use instead, such as logical CPUs in a test.

    Raises:
        InputError: unknown kind, or neither TF_CONFIG nor SLURM describes the workers.
    """
    if kind not in STRATEGIES:
        raise InputError(f"strategy is {kind!r}; expected {' or '.join(STRATEGIES)}")
    if kind == "multiworker":
        if not IS_KERAS_3:
            raise InputError(
                "--strategy=multiworker needs the current line, TensorFlow 2.21 with Keras 3; with "
                "TensorFlow 2.15 train the folds on one machine each: --fold=0, --fold=1..."
            )
        resolver = _resolver(os.environ)
        others = ", ".join(resolver.cluster_spec().as_dict().get("worker", []))
        print(
            f"waiting for the workers at {others}; until all are there only kill -9 ends this one",
            file=sys.stderr,
            flush=True,
        )
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    if devices is None:
        gpus = tf.config.list_logical_devices("GPU")
        devices = [gpu.name for gpu in gpus] or ["/cpu:0"]
    return tf.distribute.MirroredStrategy(list(devices))


def _resolver(environment: Mapping[str, str]) -> tf.distribute.cluster_resolver.ClusterResolver:
    if environment.get("TF_CONFIG"):
        try:
            config = json.loads(environment["TF_CONFIG"])
            _check_cluster(config["cluster"], config["task"]["type"], config["task"]["index"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"TF_CONFIG cannot be used ({type(error).__name__}: {error}); expected "
                '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
                '"task": {"type": "worker", "index": 0}}'
            ) from error
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    needed = (
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_NODELIST",
        "SLURM_STEP_TASKS_PER_NODE",
    )
    missing = [name for name in needed if name not in environment]
    if missing:
        raise InputError(
            "--strategy=multiworker finds neither TF_CONFIG nor SLURM's variables "
            f"({', '.join(missing)} not set); set TF_CONFIG on each machine, or start the "
            "workers with srun"
        )
    try:
        tasks, job = (int(environment.get(n, 0)) for n in ("SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID"))
        int(environment["SLURM_PROCID"])
    except ValueError as error:
        raise InputError(f"SLURM's variables cannot be used ({error}); expected srun's") from error
    # SLURM itself gives each task its GPUs; here the counts only number the tasks of a node.
    return tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=SLURM_PORT + job % SLURM_PORTS,
        gpus_per_node=tasks,
        gpus_per_task=1,
        auto_set_gpu=False,
    )


def _check_cluster(cluster: dict, kind: str, index: int) -> None:
    for addresses in (cluster["worker"], cluster.get("chief", ["none:0"])):
        if not addresses or not all(re.fullmatch(r"[^:\s]+:\d+", each) for each in addresses):
            raise ValueError(f"{addresses} are no addresses of the form host:port")
    if kind not in ("worker", "chief") or kind not in cluster:
        raise ValueError(f"the task is a {kind!r}, and no worker of the cluster")
    if not isinstance(index, int) or not 0 <= index < len(cluster[kind]):
        raise ValueError(f"index {index} is not one of the {len(cluster[kind])} of type {kind}")


def agree(strategy: tf.distribute.Strategy, what: Any) -> bool:
    """Whether all processes hold the same value; every one must ask, which also makes them meet.

    Args:
        strategy: joins the processes.
        what: anything that JSON can say.
    """
    text = json.dumps(what, sort_keys=True, default=str)
    number = int(hashlib.sha256(text.encode()).hexdigest()[:5], 16)

    value = tf.constant([number, number**2], tf.float64)
    sums = strategy.experimental_local_results(_adding_up(strategy)(value))[0].numpy()
    # Equal numbers are those whose mean square is the square of their mean; exact in float64.
    return bool(strategy.num_replicas_in_sync * sums[1] == sums[0] ** 2)


@functools.cache
def _adding_up(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], Any]:
    """The sum over all replicas, compiled once for every question."""

    def replica(value: tf.Tensor) -> tf.Tensor:
        # A copy has the replica's device, which a sum over devices asks for.
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(value))

    return tf.function(
        counted_alone(lambda value: strategy.run(replica, (value,))), autograph=False
    )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes; always, if it is the only one."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return True
    if "chief" in resolver.cluster_spec().as_dict():
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def check_batch(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Refuse a global batch that the replicas cannot share evenly.

    Raises:
        InputError: with the nearest batch size that fits.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            f"a batch of {batch_size} does not divide over {replicas} devices; expected a multiple "
            f"of {replicas}, for example --batch_size={-(-batch_size // replicas) * replicas}"
        )


def choose_micro_batch(
    wanted: int, batch_size: int, strategy: tf.distribute.Strategy, fitting: int | None = None
) -> int:
    """How many slabs one device holds at once.

    Args:
        wanted: slabs, or 0 for as many as fit.
        batch_size: global.
        strategy: shares the batch.
        fitting: how many slabs fit into the memory; None if that is unknown.

    Returns:
        A divisor of the batch per device.

    Raises:
        InputError: ``wanted`` is no such divisor.
    """
    check_batch(batch_size, strategy)
    each = batch_size // strategy.num_replicas_in_sync
    divisors = [n for n in range(1, each + 1) if each % n == 0]
    if wanted and wanted not in divisors:
        raise InputError(
            f"micro_batch is {wanted}; expected a divisor of the {each} slabs that each device "
            f"has of a batch of {batch_size}: {', '.join(map(str, divisors))}"
        )
    if wanted:
        return wanted
    return max(n for n in divisors if fitting is None or n <= max(fitting, 1))
