"""TensorBoard's own reader on the event files of a run."""

import io

import numpy as np
import pytest
from helpers.fake_step import FakeStep

from tf_hypoperfusion.config import RESEARCH_NOTICE, preset
from tf_hypoperfusion.training import history, step, trainer


class StepWithGraph(FakeStep):
    """Trains nothing, but knows what the network looks like."""

    def __init__(self, *settings):
        super().__init__(*settings)
        self.graph = step.build(*settings).graph


@pytest.fixture(scope="module")
def fold(records_dir, tmp_path_factory):
    """Two epochs; pictures at each; stopped between them, as a run of weeks would be."""
    run = tmp_path_factory.mktemp("run") / "watched"
    settings = preset("tiny", epochs=2)
    for stop in (1, None):
        watch = trainer.RunOptions(overlay_epochs=1, stop_after_epoch=stop)
        build_step = FakeStep if stop is None else StepWithGraph
        trainer.train_fold(records_dir, run, 0, settings, options=watch, build_step=build_step)
    return run / "fold-0"


def reader(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0})
    return events.Reload()


@pytest.mark.core
@pytest.mark.parametrize(("writer", "prefix"), [("train", ""), ("validation", "val_")])
def test_curves_are_those_of_the_history(fold, writer, prefix):
    from tensorboard.util import tensor_util

    events = reader(fold / "tensorboard" / writer)
    rows = history.read(fold)
    names = {f"loss/{n}": n for n in ("composite", "cross_entropy", "dice_loss", "volume_error")}
    names |= {"dice": "dice", "volume_error_ml": "volume_error_ml"}
    for tag, name in names.items():
        found = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}
        assert found == {r["epoch"]: pytest.approx(r[prefix + name], rel=1e-5) for r in rows}, tag
    if writer == "train":
        for name in ("learning_rate", "examples_per_s", "input_wait_share"):
            assert [e.step for e in events.Tensors(f"training/{name}")] == [1, 2]
            names[f"training/{name}"] = name
    for tag in names:
        assert len(events.SummaryMetadata(tag).summary_description) > 15, tag
    assert "in mL" in events.SummaryMetadata("volume_error_ml").summary_description


@pytest.mark.core
def test_pictures_show_the_same_patients_each_time(fold, records_dir):
    from matplotlib.image import imread
    from tensorboard.util import tensor_util

    events = reader(fold / "tensorboard/validation")
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("sub-")]
    assert len(tags) == 2  # DWI and ADC of the one validation patient
    for tag in tags:
        assert [e.step for e in events.Tensors(tag)] == [1, 2]
        shown = []
        for event in events.Tensors(tag):
            width, height, png = tensor_util.make_ndarray(event.tensor_proto)[:3]
            picture = imread(io.BytesIO(png))
            assert picture.shape[:2] == (int(height), int(width))
            shown.append(picture)
        orange = np.abs(shown[0][..., :3] - np.array([0xE6, 0x9F, 0x00]) / 255).max(axis=-1) < 0.02
        assert orange.sum() > 100  # the truth's contour, besides its patch in the legend


@pytest.mark.core
def test_settings_and_graph_are_there(fold):
    from tensorboard.util import tensor_util

    events = reader(fold / "tensorboard/train")
    text = tensor_util.make_ndarray(events.Tensors("config")[0].tensor_proto).item().decode()
    assert RESEARCH_NOTICE in text
    assert '"batch_norm_momentum": 0.9' in text
    assert "attention_unet" in str(events.Graph())[:2_000_000]
    validation = reader(fold / "tensorboard/validation")
    assert validation.PluginTagToContent("hparams")


def test_profile_is_written(records_dir, tmp_path):
    settings = preset("tiny", epochs=4, batch_size=2)  # 6 steps an epoch: steps 10 to 20 are there
    watch = trainer.RunOptions(overlay_epochs=0, profile=True)
    trainer.train_fold(records_dir, tmp_path, 0, settings, options=watch, build_step=FakeStep)
    written = list((tmp_path / "fold-0/tensorboard/train/plugins/profile").rglob("*.xplane.pb"))
    assert len(written) == 1
    assert written[0].stat().st_size > 1000
