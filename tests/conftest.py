"""Seeded cohorts shared by the tests. All patients here are simulated, but for ``real_data``."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT
from helpers.commands import call
from helpers.made_once import made_once

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As data_tools.records does, which a test may import after Keras.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# No command says that it is still at work: what one prints may not depend on how busy a machine is.
os.environ.setdefault("HYPOPERFUSION_SILENT_S", "0")


# Files whose tests share no expensive fixture: each test may go to any worker.
SPREAD = ("test_benchmarks.py", "test_patient.py", "test_trainer_interrupted.py")
# Files that share one: they stay on one worker.
TOGETHER = {
    f"test_{name}.py": "one server"
    for name in ("lean_server", "server_embedded", "server_grpc", "server_repository",
                 "server_rest", "server_runner", "server_other_client", "serve_command",
                 "serving_client")
}  # fmt: skip
# The slowest go first, so that no worker is left with one of them at the end.
SLOWEST_FIRST = (
    "test_trainer.py", *TOGETHER, "test_trainer_interrupted.py", "test_benchmarks.py",
    "test_evaluation.py", "test_saved_model.py", "test_onnx_model.py", "test_lean_predict.py",
    "test_scanner_table.py", "test_commands.py", "test_patient.py", "test_preprocess.py",
    "test_page.py", "test_request_checks.py", "test_simulate_looks.py", "test_attention_unet.py",
    "test_step.py", "test_gpu_training.py", "test_dicom_objects.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """See ``SLOWEST_FIRST``."""
    order = {name: place for place, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file stays on one worker, for its fixtures are made once there; see ``SPREAD`` too."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            name = Path(file).name
            return nodeid if name in SPREAD else TOGETHER.get(name, file)

    return ByFile(config, log)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real patients; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("HYPOPERFUSION_REAL_DATA", PROJECT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real patients at {folder} (set HYPOPERFUSION_REAL_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def every_result_is_as_published(tmp_path_factory):
    """At the end: every ``result.json`` that was written fits the published schema."""
    yield
    from helpers import results

    if results.VALIDATOR is None:
        return
    faults = results.faults_below(tmp_path_factory.getbasetemp())
    assert not faults, "result.json is not as docs/reference/result.schema.json says:\n" + faults


@pytest.fixture(scope="session")
def mni_cohort(tmp_path_factory):
    """Six simulated patients as ``preprocess`` would write them. Read only."""
    from data_tools.simulate import simulate_cohort

    return made_once(
        tmp_path_factory, "mni", lambda folder: simulate_cohort(folder, 6, seed=7, space="mni")
    )


@pytest.fixture(scope="session")
def raw_cohort(tmp_path_factory):
    """Two simulated patients as scanners give them: own pose, voxels, orientation. Read only."""
    from data_tools.simulate import simulate_cohort

    return made_once(tmp_path_factory, "raw", lambda folder: simulate_cohort(folder, 2, seed=7))


@pytest.fixture(scope="session")
def records_dir(mni_cohort, tmp_path_factory):
    """Records of ``mni_cohort``: four slabs a patient, two shards a subset. Read only."""
    from data_tools.records_builder import build

    return made_once(
        tmp_path_factory, "records",
        lambda folder: build(
            str(mni_cohort), str(folder), stride=16, shards=2, seed=1, stratify="none"
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained_fold(records_dir, tmp_path_factory):
    """A run whose fold 0 was trained for one epoch, by the command. Read only.

    One pooling fewer than the preset's: half as long to compile.
    """
    from tf_hypoperfusion import train
    from tf_hypoperfusion.config import preset

    settings = {
        name: dataclasses.asdict(part)
        for name, part in preset("tiny", epochs=1, poolings=1)._asdict().items()
    }

    def run(folder):
        config = folder.with_name("trained_fold.json")
        config.write_text(json.dumps(settings))
        given = ("--fold=0", f"--config={config}", f"--records={records_dir}")
        assert call(train, *given, f"--run={folder}") == 0

    return made_once(tmp_path_factory, "trained_fold", run)


@pytest.fixture
def run_command():
    """Run ``python -m MODULE ARGS`` in a fresh process, as a user would."""

    def run(module, *arguments, timeout=300, **options):
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=PROJECT,
            **options,
        )

    return run
