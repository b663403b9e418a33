"""What the machine decides: precision, micro-batch, cache, strategy; and what it refuses."""

import json
from types import SimpleNamespace

import pytest

from data_tools.manifest import Manifest, Shard, Subset
from data_tools.runtime import processor
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.model.keras_compat import IS_KERAS_3
from tf_hypoperfusion.training import distribution, free_memory, memory, precision

pytestmark = pytest.mark.core


def replicas(count):
    return SimpleNamespace(num_replicas_in_sync=count)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fma avx512_bf16 sse", "bfloat16"), ("amx_bf16", "bfloat16"), ("fma avx2", "float32")],
)
def test_auto_precision_follows_the_processor(monkeypatch, tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu {flags}\nflags : x\n")
    read = processor.flags(tmp_path / "cpuinfo")
    assert "fpu" in read
    monkeypatch.setattr(processor, "flags", lambda: read)
    chosen, reason = precision.choose_precision("auto")
    assert chosen == expected
    assert "CPU" in reason and "bfloat16" in reason


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((7, 5), "float32")])
def test_auto_precision_follows_the_gpu(monkeypatch, capability, expected):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability, "device_name": "Some GPU"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    chosen, reason = precision.choose_precision("auto")
    assert chosen == expected
    assert reason.startswith("Some GPU")


def test_no_cpuinfo_is_no_bfloat16(tmp_path):
    assert processor.flags(tmp_path / "none") == set()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: ACME 9000 @ 2 GHz\n")
    assert processor.model(tmp_path / "cpuinfo") == "ACME 9000 @ 2 GHz"
    assert processor.model(tmp_path / "none")


def test_float16_needs_a_gpu():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="float16, but there is no GPU"):
        precision.choose_precision("float16")


@pytest.mark.parametrize("flags", ["fma avx512f", "avx2 amx_bf16", ""], ids=str)
def test_bfloat16_is_taken_where_asked_for(flags, monkeypatch):
    """Also where the system does not tell its flags."""
    monkeypatch.setattr(processor, "flags", lambda: set(flags.split()))
    assert precision.choose_precision("bfloat16")[0] == "bfloat16"


def test_bfloat16_needs_a_processor_that_sums_it_right(monkeypatch):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    monkeypatch.setattr(processor, "flags", lambda: {"fma", "avx2"})
    with pytest.raises(InputError, match="no AVX-512.*expected --precision=float32 here"):
        precision.choose_precision("bfloat16")


def test_micro_batch_is_the_largest_divisor_that_fits():
    assert distribution.choose_micro_batch(0, 32, replicas(1)) == 32
    assert distribution.choose_micro_batch(0, 32, replicas(1), fitting=7) == 4
    assert distribution.choose_micro_batch(0, 30, replicas(2), fitting=7) == 5
    assert distribution.choose_micro_batch(0, 32, replicas(1), fitting=0) == 1
    assert distribution.choose_micro_batch(8, 32, replicas(4), fitting=1) == 8  # as asked for


def test_batches_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="a batch of 32 does not divide over 3 devices.*=33"):
        distribution.check_batch(32, replicas(3))
    with pytest.raises(InputError, match="micro_batch is 6; expected a divisor of the 16 slabs"):
        distribution.choose_micro_batch(6, 32, replicas(2))


def test_memory_of_a_slab_follows_the_network():
    """The published network took 1.05 to 1.2 GiB a slab when it was measured."""
    small, paper = preset("small")[0], preset("paper")[0]
    assert 1.0 < memory.bytes_per_slab(paper) / 2**30 < 1.5
    assert memory.bytes_per_slab(paper) > 4 * memory.bytes_per_slab(small)


MIB = 2**20


def files(root, contents):
    """Write files of a machine below a folder."""
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def machine(free_mib, group):
    """With so much memory free, and what it says of this process's control groups."""
    return {
        "proc/meminfo": f"MemTotal: 9 kB\nMemAvailable:   {free_mib * 1024} kB",
        "proc/self/cgroup": group,
    }


def test_available_memory_is_read_from_the_system(tmp_path):
    assert free_memory.available_bytes(files(tmp_path, machine(2, "0::/"))) == 2 * MIB
    elsewhere = free_memory.available_bytes(tmp_path / "none")  # sysconf, where the system has it
    assert elsewhere is None or elsewhere > 0


def version_2(folder, limit, used, cache="active_file 0\ninactive_file 0"):
    """Files of a control group."""
    where = f"sys/fs/cgroup{folder}/memory"
    return {f"{where}.max": limit, f"{where}.current": used, f"{where}.stat": cache}


def version_1(folder, limit, used, cache="total_active_file 0\ntotal_inactive_file 0"):
    """Files of a control group."""
    where = f"sys/fs/cgroup/memory{folder}/memory"
    return {
        f"{where}.limit_in_bytes": limit, f"{where}.usage_in_bytes": used, f"{where}.stat": cache,
    }  # fmt: skip


NO_LIMIT = 9223372036854771712
V1 = "11:cpu,cpuacct:/a\n4:memory:/job/task\n0::/"


@pytest.mark.parametrize(
    ("group", "contents", "expected_mib"),
    [
        pytest.param("0::/", version_2("", "max", 50 * MIB), 900, id="no limit"),
        pytest.param("0::/", version_2("", 300 * MIB, 50 * MIB), 250, id="a container"),
        pytest.param(
            "0::/job/task",
            version_2("/job", 300 * MIB, 100 * MIB) | version_2("/job/task", "max", 50 * MIB),
            200, id="the outer of two",
        ),
        pytest.param(
            "0::/job/task",
            version_2("/job", 300 * MIB, 100 * MIB) | version_2("/job/task", 70 * MIB, 50 * MIB),
            20, id="the inner of two",
        ),
        pytest.param(
            "0::/",
            version_2("", 300 * MIB, 250 * MIB,
                      f"anon 1\nfile {200 * MIB}\nactive_file {MIB}\ninactive_file {99 * MIB}"),
            150, id="page cache",
        ),
        pytest.param(
            "0::/", version_2("", "max", 50 * MIB) | {"sys/fs/cgroup/memory.high": 200 * MIB},
            150, id="throttled",
        ),
        pytest.param("0::/", version_2("", 300 * MIB, 301 * MIB), 0, id="over the limit"),
        pytest.param("0::/gone", {}, 900, id="no files"),
        pytest.param(V1, version_1("/job/task", NO_LIMIT, 5), 900, id="version 1, no limit"),
        pytest.param(
            V1,
            version_1("", NO_LIMIT, 5) | version_1("/job", 400 * MIB, 5 * MIB)
            | version_1("/job/task", 300 * MIB, 80 * MIB,
                        f"cache {70 * MIB}\ntotal_active_file 0\ntotal_inactive_file {60 * MIB}"),
            280, id="version 1",
        ),
        pytest.param(V1, version_1("", 300 * MIB, 50 * MIB), 250, id="version 1, own is outermost"),
    ],
)  # fmt: skip
def test_a_container_has_what_its_limits_leave(group, contents, expected_mib, tmp_path):
    """Control groups of version 2 and 1, of a machine with 900 MiB free."""
    root = files(tmp_path, machine(900, group) | contents)
    assert free_memory.available_bytes(root) == expected_mib * MIB


def test_records_beyond_their_share_leave_less_to_the_step(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.setattr(memory.tf.config, "list_physical_devices", lambda kind: [])
    assert [memory.fitting_slabs(99, records) for records in (0, 300, 500, 2000)] == [6, 6, 4, 0]


def test_cache_is_chosen_by_the_size_of_the_records(monkeypatch):
    def subset(*sizes):
        shards = tuple(Shard(file="", slabs=1, bytes=size, sha256="") for size in sizes)
        return Subset(participants=(), slabs=len(sizes), shards=shards)

    manifest = Manifest(
        schema_version=1, cohort="", fingerprint="", slabs=2, patients=(),
        subsets=(subset(600, 400), subset()),
    )  # fmt: skip
    monkeypatch.setattr(memory, "available_bytes", lambda: 4000)
    assert memory.choose_cache("auto", manifest, [0, 1])
    monkeypatch.setattr(memory, "available_bytes", lambda: 3000)
    assert not memory.choose_cache("auto", manifest, [0, 1])
    assert memory.choose_cache("on", manifest, [0])
    assert not memory.choose_cache("off", manifest, [1])
    with pytest.raises(InputError, match="cache is 'yes'; expected auto, on or off"):
        memory.choose_cache("yes", manifest, [0])


def test_unknown_strategy():
    with pytest.raises(InputError, match="strategy is 'tpu'; expected mirrored or multiworker"):
        distribution.choose_strategy("tpu")


@pytest.mark.skipif(IS_KERAS_3, reason="the current line can")
def test_several_workers_need_the_current_line():
    with pytest.raises(InputError, match="needs the current line"):
        distribution.choose_strategy("multiworker")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "neither TF_CONFIG nor SLURM"),
        ({"SLURM_PROCID": "0"}, "SLURM_STEP_NUM_TASKS, .*not set"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG cannot be used"),
        ({"TF_CONFIG": '{"cluster": {}}'}, "TF_CONFIG cannot be used .*'task'"),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}'},
            "the task is a 'ps', and no worker",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", '
            '"index": "0"}}'},
            "TF_CONFIG cannot be used",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", '
            '"index": 5}}'},
            "index 5 is not one of the 1 of type worker",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}'},
            "no addresses of the form host:port",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}'},
            "no addresses of the form host:port",
        ),
        (
            {"SLURM_PROCID": "x", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "a",
             "SLURM_STEP_TASKS_PER_NODE": "2"},
            "SLURM's variables cannot be used",
        ),
    ],
)  # fmt: skip
def test_workers_that_are_not_described_are_refused(environment, message):
    with pytest.raises(InputError, match=message):
        distribution._resolver(environment)


def test_slurm_variables_describe_the_workers(monkeypatch):
    for name, value in {
        "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NODELIST": "node[01-02]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_JOB_ID": "41",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    import os

    resolver = distribution._resolver(os.environ)
    spec = resolver.cluster_spec().as_dict()
    assert spec == {"worker": ["node01:12041", "node01:12042", "node02:12041"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_tf_config_describes_the_workers(monkeypatch):
    config = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    import os

    resolver = distribution._resolver(os.environ)
    assert resolver.cluster_spec().as_dict() == config["cluster"]
    assert resolver.task_id == 1


def test_one_process_agrees_with_itself_and_is_its_own_chief():
    assert distribution.agree(distribution.choose_strategy(), {"a": 1.5})
    assert distribution.is_chief(distribution.choose_strategy())
