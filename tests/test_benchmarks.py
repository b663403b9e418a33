"""The benchmarks run: the smallest sizes of each, and what they do with bad input."""

import csv
import functools
import importlib
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import PROJECT
from helpers.commands import call
from helpers.fake_step import keeping

from benchmarks import first_answer, growth, network, silence, training_step
from benchmarks.measuring import processes, tables, turns
from benchmarks.ways import step_profile
from data_tools.runtime.errors import InputError


def benchmark(*arguments, status=0):
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr[-2000:]
    return done


@pytest.fixture
def here(monkeypatch, capsys):
    """Run a benchmark in this process, which has TensorFlow: its output and errors."""
    monkeypatch.chdir(PROJECT)

    def run(name, *arguments, status=0):
        ended = call(importlib.import_module(f"benchmarks.{name}"), *arguments)
        said = capsys.readouterr()
        assert ended == status, said.err[-2000:]
        return said

    return run


def test_every_script_is_listed_and_teaches(here):
    listed = benchmark("benchmarks").stdout
    scripts = sorted(p.stem for p in (PROJECT / "benchmarks").glob("[a-z]*.py"))
    assert len(scripts) > 8
    for name in scripts:
        assert f"python -m benchmarks.{name} " in listed
        assert f"python -m benchmarks.{name}" in here(name, "--help").out
        source = (PROJECT / f"benchmarks/{name}.py").read_text()
        assert source.endswith("    sys.exit(command.run(main, FLAGS, __doc__))\n"), name
    assert benchmark("benchmarks.overfit", "--help").stdout == here("overfit", "--help").out


def test_a_benchmark_of_no_such_name_gets_the_nearest():
    told = benchmark("benchmarks", "netwrok", status=2).stderr
    assert "'netwrok' is not understood; did you mean python -m benchmarks.network?" in told


def test_the_network_is_timed_by_turns(here, tmp_path, monkeypatch):
    """With oneDNN off only the inference: a process more that compiles a training step. The
    training is measured though the matrix product beside it fails."""
    every = network.ways

    def ways(folder, shape, task, precision):
        found = every(folder, shape, task, precision)
        if task == "infer":
            return found[:3]
        return [found[0] | {"python": "false"}, found[1]]

    monkeypatch.setattr(network, "ways", ways)
    small = ["--preset=tiny", "--slabs=1", "--together=1", "--rounds=1", "--tasks=infer,train"]
    said = here("network", *small, "--precisions=float32", f"--out={tmp_path}/t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert all(float(row["seconds"]) > 0 and float(row["peak_gib"]) > 0.1 for row in rows)
    assert [row["way"] for row in rows] == [
        "this project", "this project, oneDNN off", "this project"
    ]  # fmt: skip
    rows = rows[::2]
    assert [row["task"] for row in rows] == ["infer", "train"]
    assert all(row["ours_is_x_as_fast"] == "1.0" for row in rows)
    assert [bool(row["of_product"]) for row in rows] == [True, False]
    # A training step counts three times the forward pass.
    assert float(rows[1]["gflop"]) == pytest.approx(3 * float(rows[0]["gflop"]), abs=3)
    assert float(rows[0]["difference"]) < 1e-5
    assert "this project" in said.out


@pytest.mark.parametrize("terminal", [True, False])
def test_silences_are_measured_and_servers_ended(terminal):
    code = "import time; print('first', flush=True); time.sleep(1.2); print('last')"
    heard = silence.listen([sys.executable, "-c", code], terminal=terminal, speed=0.8)
    assert heard.status == 0 and heard.text == "first\nlast\n"
    assert 1.2 <= heard.silent_s <= heard.seconds
    served = "import time; print('ready', flush=True); time.sleep(600)"
    heard = silence.listen([sys.executable, "-c", served], terminal=terminal, ready=b"ready")
    assert heard.status == -signal.SIGTERM


def test_whole_commands_are_measured_with_the_processes_they_start(tmp_path):
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    work = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    made = []
    commands = {
        "works": processes.Command([sys.executable, "-c", work], tmp_path, lambda: made.append(1)),
        "idles": processes.Command([sys.executable, "-c", "pass"], tmp_path),
    }
    taken = processes.measure(commands, 2, tmp_path / "log")
    assert [len(runs) for runs in taken.values()] == [2, 2] and len(made) == 3
    assert all(run.cpu_s >= 0.5 for run in taken["works"])
    assert all(run.peak_mib > 1 and run.wall_s > 0 for run in taken["idles"])
    commands["fails"] = processes.Command([sys.executable, "-c", "exit('no such luck')"], tmp_path)
    with pytest.raises(InputError, match="fails: .* exit status 1; it said: no such luck"):
        processes.measure(commands, 1, tmp_path / "log")


def test_a_step_s_operations_are_told_apart():
    kinds = {
        "attention_unet_1/encoder0_conv0_1/Relu:_MklNativeFusedConv3D": "convolutions: forward",
        "attention_unet/up/conv3d_transpose:Conv3DBackpropInputV2": "convolutions: forward",
        "Conv3D_23:_MklNativeConv3D": "convolutions: gradient by inputs",
        "gradient_tape/a/Conv3DBackpropFilterV2:Conv3DBackpropFilterV2": "convolutions: gradient "
        "by weights",
        "gradient_tape/attention_unet/n/F:_MklNativeFusedBatchNormGradV3": "normalisation: "
        "gradient",
        "gradient_tape/attention_unet/mul/Mul:Mul": None,
    }
    assert {name: step_profile._kind(name) for name in kinds} == kinds
    told = (
        "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src dst,,,8x4x3x3x3,0.25\n"
        "onednn_verbose,v1,primitive,exec,cpu,pooling,jit:avx512_core,alg,mb8,3.5\n"
    )
    assert step_profile.REORDER.findall(told) == ["0.25"]
    seen = {"profile": {"pooling": 3.0, "everything else": 1.0}, "others_ms": "Mul 1"}
    rows = training_step.profile(
        {"precision": "float32", "layers": "wide"}, seen | {"reorders_ms": 0.4}
    )
    assert [row["share"] for row in rows] == ["75.0%", "25.0%", "10.0%", "100.0%"]
    assert rows[1]["most"] == "Mul 1"


def test_a_first_answer_is_timed_and_compared(tmp_path):
    pytest.importorskip("openvino")
    demo = str(PROJECT / "saved_models/hypoperfusion_demo")
    rows = [
        first_answer.one(json.dumps([demo, "openvino", precision, 1, str(tmp_path)]))
        for precision in ("float32", "float32", "bfloat16")
    ]
    assert all(row["all"] > 0 and row["peak_gib"] > 0.1 for row in rows)
    assert [row["difference"] for row in rows[:2]] == [0, 0] and rows[2]["difference"] < 0.05


def test_another_python_is_asked_for_what_it_has(tmp_path):
    text = tmp_path / "python"
    for _ in range(2):  # no such file; a text that may be executed
        done = benchmark("benchmarks.network", f"--others={text}", status=2)
        assert "is no Python" in done.stderr and "Traceback" not in done.stderr
        text.write_text("no program\n")
        text.chmod(0o755)
    bare = subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"])
    assert bare.returncode == 0
    done = benchmark("benchmarks.network", f"--others={tmp_path}/bare/bin/python", status=2)
    assert "lacks torch, monai, openvino, onnxruntime; install them there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("network", "--rounds=0"), "--rounds=0 is not valid; expected a whole number from 1 to"),
        (("network", "--tasks=infer,bake"), "'bake' is none of infer, train"),
        (("network", "--precisions="), "at least one"),
        (("network", "--micro=2", "--slabs=1", "--together=1"), "more than --slabs=1"),
        (("network", "--out=tests"), "is no file"),
        (("one_patient", "--windows=13"), "a patient has 12"),
        (("whole_patient", "--before=tests"), "holds no tf_hypoperfusion/predict.py; expected"),
        (("whole_patient", "--variant=half"), "expected NAME=FLAGS"),
        (("whole_patient", "--dwi=a.nii"), "one of --dwi and --adc is given"),
        (("many_patients", "--patients=3"), "--patients=3 is not valid"),
        (("compute_less", "--dwi=a.nii"), "are given 1, 0 and 0 times; expected each once"),
        (("compute_less", "--ways=int4/4"), "'int4/4' is none of float32/4"),
        (("training_step", "--micro=1,x"), "'x' is no whole number"),
        (("training_step", "--micro=3"), "does not divide"),
        (("growth", "--cohort=tests"), "holds no participants.tsv"),
        (("data_layer", "--records=tests"), "holds no manifest.json"),
        (("one_patient", "--model=no.keras"), "no such file"),
        (("serving", "--models=tests"), "no such file"),
        (("accelerator", "--batches=0"), "'0' is no whole number"),
        (("accelerator",), "KERAS_BACKEND is not jax"),
        (("overfit", "--normalisation=odd"), "expected batch, group or none"),
        (
            ("network", "--rounds=99999999999999999999"),
            "--rounds=99999999999999999999 is not valid; expected a whole number from 1 to 1000000",
        ),
        (
            ("overfit", "--batch_size=17"),
            "--batch_size=17 is not valid; expected a whole number from 1 to 16",
        ),
        (("from_scanner_files", "--seeds=a", "--out=x"), "'a' is no whole number"),
        (("learning_curve", "--records=tests", "--run=tests", "--out=x"), "holds no manifest.json"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_measured(arguments, told, here, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    name, *flags = arguments
    said = here(name, *flags, status=2)
    assert told in said.err and "Traceback" not in said.err
    assert not said.out


def test_a_way_that_dies_fails_alone(tmp_path):
    def way(code):
        """A stand-in for the interpreter: its lines are the way's process."""
        program = tmp_path / f"way{hash(code)}"
        program.write_text(f"#!{sys.executable}\nimport sys, os\n{code}")
        program.chmod(0o755)
        return {"python": str(program)}

    asked = [
        way("print('{}')\nfor _ in sys.stdin: print('{\"seconds\": 2}', flush=True)"),
        way("print('{}', flush=True)\nsys.stdin.readline()\nos.kill(os.getpid(), 9)"),
        way("print('no such framework')\nsys.exit(1)"),
    ]
    good, died, none = turns.measure(asked, 3, tmp_path / "log")
    assert good["seconds"] == [2, 2, 2]
    assert died["seconds"] == [] and died["failed"] == "ended with exit status -9"
    assert none["failed"] == "no such framework"


def test_tables_write_what_they_print(tmp_path, capsys):
    made = tables.Tables(str(tmp_path / "t.csv"), ("numpy", "no-such-package"), "a note")
    made.show("first", [{"way": "ours", **tables.timing([3.0, 1.0, 2.5])}])
    made.show("second", [{"way": "theirs", "gib": 1}, {"way": "none", "failed": "why"}])
    printed = capsys.readouterr().out
    assert f"numpy {np.__version__}, no no-such-package; a note" in printed
    assert "ours  2.5      2.0" in printed
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["table"] for row in rows] == ["first", "second", "second"]
    assert rows[0]["seconds"] == "2.5" and rows[1]["gib"] == "1" and rows[2]["failed"] == "why"
    assert all("a note" in row["made_with"] and int(row["threads"]) > 0 for row in rows)


def test_a_command_of_the_growth_is_measured(tmp_path):
    seconds, gib = growth.run(tmp_path, "data_tools.check_cohort", "--help")
    assert seconds > 0 and 0.01 < gib < 4
    with pytest.raises(InputError, match="check_cohort failed: error: "):
        growth.run(tmp_path, "data_tools.check_cohort", f"--cohort={tmp_path}/none")


def test_growth_is_measured(here, mni_cohort, trained_fold, tmp_path, monkeypatch):
    """Its commands in this process; what is evaluated was trained before."""
    from tf_hypoperfusion.training import trainer

    kept = keeping(trained_fold / "fold-0/best.keras")
    cheap = functools.partial(trainer.train_folds, build_step=kept)

    def run(folder, module, *arguments):
        command = importlib.import_module(module)
        if not hasattr(command, "FLAGS"):
            command = importlib.import_module(f"{module}.__main__")
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "train_folds", cheap)
            assert call(command, *arguments) == 0
        return 1.0, 0.5

    monkeypatch.setattr(growth, "run", run)
    given = (f"--cohort={mni_cohort}", "--windows_and_width=false", f"--out={tmp_path}/g.csv")
    here("growth", *given, "--patients=6")
    rows = list(csv.DictReader((tmp_path / "g.csv").open()))
    assert [row["command"] for row in rows] == [
        "build_1", "build_2", "train", "train_uncached", "evaluate_fifth"
    ]  # fmt: skip
    assert all((row["seconds"], row["peak_gib"]) == ("1.0", "0.5") for row in rows)
    assert "has 6 patients" in here("growth", *given, "--patients=7", status=2).err


def test_the_data_layer_is_measured(here, records_dir, tmp_path):
    given = (f"--records={records_dir}", "--batches=2", "--rounds=2")
    here("data_layer", *given, f"--out={tmp_path}/d.csv")
    rows = {row["way"]: row for row in csv.DictReader((tmp_path / "d.csv").open())}
    assert len(rows) == 7
    assert float(rows["memory-map, float32"]["of_memory_map"]) == 1
    assert float(rows["trainer, page cache"]["mb_a_slab"]) < 1.2
    assert all(float(row["slabs_per_s"]) > 0 for row in rows.values())


def test_a_learning_curve_repeats_a_fold_with_fewer_patients(
    here, records_dir, trained_fold, tmp_path, monkeypatch
):
    """Its networks are copies of one that was trained before."""
    from data_tools import records
    from tf_hypoperfusion.training import trainer

    kept = keeping(trained_fold / "fold-0/best.keras")
    cheap = functools.partial(trainer.train_fold, build_step=kept)
    monkeypatch.setattr(trainer, "train_fold", cheap)
    out = tmp_path / "out"
    given = (f"--records={records_dir}", f"--run={trained_fold}", f"--out={out}")
    said = here("learning_curve", *given, "--patients=9", status=2)
    everything = records.load_manifest(records_dir)
    most = sum(len(subset.participants) for subset in everything.subsets[2:])
    assert f"expected at most the {most} that fold 0 trains on" in said.err
    here("learning_curve", *given, "--patients=1,2")
    rows = list(csv.DictReader((out / "learning_curve.csv").open()))
    # An epoch of all was a step of four slabs for each; as many steps in whole epochs of fewer.
    assert [(row["network"], row["steps"]) for row in rows] == [
        (f"{count} patients", str(count * -(-most // count))) for count in (1, 2)
    ]
    chosen = []
    for count in (1, 2):
        fewer = records.load_manifest(out / f"{count}/records")
        assert records.damaged_shards(out / f"{count}/records", fewer) == []
        assert [fewer.subsets[k] == everything.subsets[k] for k in (0, 1)] == [True] * 2
        chosen.append({p for k in (2, 3, 4) for p in fewer.subsets[k].participants})
        assert (
            len(chosen[-1]) == count
            and len(fewer.patients) == len(everything.patients) - most + count
        )
        assert sum(subset.slabs for subset in fewer.subsets) == fewer.slabs
    assert chosen[0] < chosen[1]


def test_a_mask_is_compared_in_the_slices_of_the_scan(tmp_path):
    import nibabel as nib

    from benchmarks.from_scanner_files import compare

    tmax_s = np.zeros((4, 4, 2), np.float32)  # voxels of 2 x 2 x 4 mm: 0.016 mL
    tmax_s[:2, :2] = 6
    nib.save(nib.Nifti1Image(tmax_s, np.diag([2, 2, 4, 1])), tmp_path / "tmax.nii.gz")
    # The DWI's grid turns x round, has half the slices' distance, and goes on above the scan.
    mask = np.zeros((4, 4, 8), np.uint8)
    mask[2:, :1] = 1
    affine = np.diag([-2.0, 2, 2, 1])
    affine[0, 3] = 6
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "mask.nii.gz")
    found = compare(tmp_path / "tmax.nii.gz", tmp_path / "mask.nii.gz")
    assert found == {"truth_ml": 0.1, "predicted_ml": 0.1, "dice": 0.67}  # 8 and 4 voxels, 4 common


def test_one_image_is_held_against_both(here, raw_cohort, tmp_path):
    assert "no head; expected --cohort" in here("one_image", status=2).err
    told = here("one_image", "--dwi=a.nii.gz", status=2).err
    assert "1 of --dwi and 0 of --adc; expected pairs" in told
    (tmp_path / "participants.tsv").write_text("participant_id\tnihss\tside\nsub-0001\t3\tleft\n")
    (tmp_path / "sub-0001").symlink_to(raw_cohort / "sub-0001")
    rows = here("one_image", f"--cohort={tmp_path}").out.splitlines()[-2:]
    assert [row.split()[1] for row in rows] == ["DWI", "ADC"]
    assert all(0.9 < float(share) <= 1 for row in rows for share in row.split()[2:6])


def test_spreads_of_the_brain_are_of_each_kind_of_change():
    from benchmarks.brain_mask import Head, changed, moves, spreads
    from data_tools.volumes import Volume

    ml = {"as it is": 100.0, "ADC x 0.98": 99.0, "ADC x 1.02": 102.0, "noise": 100.5}
    found = spreads(ml | {"header moved along z by +1": 103.0}, relative=False)
    assert (found["adc"], found["noise"], found["turn"]) == (3.0, 0.5, 0.0)
    assert (found["header"], found["all"]) == (3.0, 4.0)
    assert spreads(ml, relative=True)["adc"] == pytest.approx(102 / 99 - 1)

    # A ramp of 1 a millimetre along z, seen from a grid that lies 1 mm higher, is 1 more.
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    ramp = np.broadcast_to(4.0 * np.arange(12, dtype=np.float32), (10, 10, 12)).copy()
    head = Head(name="ramp", dwi=Volume(ramp, affine), adc=ramp)
    ways = changed(head)
    np.testing.assert_allclose(
        ways["moved along z by +1"].dwi.data[..., 4:8], ramp[..., 4:8] + 1, atol=0.05
    )
    header = ways["header moved along z by +1"]
    np.testing.assert_array_equal(header.dwi.data, ramp)
    np.testing.assert_allclose(header.to_first @ header.dwi.affine, affine)
    middle = affine @ [4.5, 4.5, 5.5, 1]
    for name, move in moves(head).items():
        shift_mm = np.linalg.norm((move @ middle - middle)[:3])
        assert shift_mm == pytest.approx(1 if name.startswith("moved") else 0)
