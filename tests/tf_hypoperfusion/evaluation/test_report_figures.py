"""Figures: reliability against scikit-learn; maps and volumes that are not those of the table."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.evaluated_cohorts import volume_pair
from matplotlib.colors import to_hex
from scipy import ndimage

from data_tools import cohort as cohorts
from data_tools import mni_patient
from data_tools.cohort import mni_file
from data_tools.grid import GRID_AFFINE
from data_tools.pictures import CORE, HYPOPERFUSION, MEASURED
from data_tools.volumes import save_volume
from tf_hypoperfusion.evaluation.report import examples, figures


def test_calibration_is_scikit_learns(with_counts):
    from sklearn.calibration import calibration_curve

    mean, observed, voxels, error = figures.calibration(with_counts.counts)
    pairs = [volume_pair(shift) for shift in (0, 2, 6, 30)]
    probability = np.concatenate([p.ravel() for p, _ in pairs])
    truth = np.concatenate([t.ravel() for _, t in pairs])
    expected_share, expected_mean = calibration_curve(truth, probability, n_bins=10)
    np.testing.assert_allclose(observed, expected_share, atol=1e-3)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-3)
    assert voxels.sum() == truth.size
    assert error == pytest.approx(np.average(abs(mean - observed), weights=voxels))


def test_maps_that_are_not_those_of_the_table_are_not_drawn(with_counts):
    assert not isinstance(examples.of_all(with_counts), str)
    names = list(with_counts.table["participant_id"])
    first, last = (with_counts.map_file(name, "desc-truth_mask") for name in (names[0], names[-1]))
    kept = first.read_bytes()
    other = with_counts.map_file(names[0], "desc-coverage_mask").read_bytes()
    first.write_bytes(other)
    assert "evaluate again" in examples.of_all(with_counts)
    first.write_bytes(kept)
    last.write_bytes(b"damaged")
    assert "delete evaluation/ and evaluate again" in examples.of_all(with_counts)


def test_examples_of_subgroups_show_their_own_patients(with_counts):
    def shown(figure):
        return [t.get_text() for axes in figure.axes for t in axes.texts if "sub-" in t.get_text()]

    table = with_counts.table
    table["core_ml"], table["occlusion"] = [0.0, 1.0, 0.0, 1.0], ["M1", "M3", "ICA", None]
    names = list(table["participant_id"])
    assert examples.without_core(with_counts).get_figheight() < (  # two patients, each once
        examples.of_all(with_counts).get_figheight()
    )
    texts = shown(examples.without_core(with_counts))
    assert sorted(t.split("\n")[2] for t in texts) == [names[0], names[2]]
    (text,) = shown(examples.without_lvo(with_counts))
    assert names[1] in text and "M3" in text
    both = shown(examples.by_lvo(with_counts))
    assert len(both) == 2 and "with large" in both[0] and names[1] in both[1]
    table["core_ml"], table["occlusion"] = 5.0, None
    assert "no patient" in examples.without_core(with_counts)
    assert "no patient" in examples.without_lvo(with_counts)
    assert "known occlusion" in examples.by_lvo(with_counts)


def test_patients_are_called_what_table_3_calls_them(with_counts):
    table = with_counts.table
    table["occlusion"] = ["M1", "M2", "none", None]
    (axes,) = figures.core_and_dice(with_counts).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "Large vessel occlusion (n=1)", "No large vessel occlusion (n=2)",
        "Unknown, or another territory (n=1)",
    ]  # fmt: skip
    table["occlusion"] = "M1"
    (axes,) = figures.core_and_dice(with_counts).axes
    assert len(axes.get_legend().get_texts()) == 1


def test_fewer_than_five_patients_are_points_and_no_violin(cohort):
    (axes,) = figures.dice_by_subgroup(cohort).axes
    groups = [label.get_text() for label in axes.get_xticklabels()]
    shown = [int(label.split("n = ")[1].rstrip(")")) for label in groups]
    assert min(shown) < 5 <= max(shown)
    violins = [each for each in axes.collections if len(each.get_paths()[0].vertices) > 20]
    assert len(violins) == sum(n >= 5 for n in shown)
    dots = [len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    assert sorted(dots) == sorted([1 if n >= 5 else n for n in shown])


def test_every_figure_has_a_caption_and_one_colour_is_the_truths(with_counts):
    assert all(len(kind.caption) > 40 for kind in figures.FIGURES.values())
    assert "dot need not lie on the line" in figures.FIGURES["roc"].caption
    reserved = {colour.lower() for colour in (MEASURED, HYPOPERFUSION, CORE)}
    for name in ("core_and_dice", "volumes", "roc", "operating", "dice_by_subgroup"):
        for axes in figures.FIGURES[name].draw(with_counts).axes:
            used = {to_hex(line.get_color()) for line in axes.lines}
            for each in axes.collections:
                used |= {to_hex(colour) for colour in each.get_facecolor()}
            assert not used & reserved, name


def test_age_and_sex_stand_beside_the_pictures(with_counts):
    with_counts.table["age"], with_counts.table["sex"] = [71.0, np.nan] * 2, ["F", None] * 2
    words = "".join(t.get_text() for axes in examples.of_all(with_counts).axes for t in axes.texts)
    assert "\n71 years, F\n" in words and "\nunknown age, unknown sex\n" in words


@pytest.fixture
def edited_cohort(mni_cohort, tmp_path):
    """Three patients of an MNI cohort, two of them edited, and what a table says of them."""
    folder, table = tmp_path / "mni", cohorts.read_participants(mni_cohort)
    rows = [cohorts.clinical_record(row) for _, row in table.iterrows()][:3]
    for k, row in enumerate(rows):
        name = row["participant_id"]
        shutil.copytree(mni_cohort / name, folder / name)
        _, label, rows[k] = mni_patient.load_labelled(folder, row)
        if k < 2:  # 0: the hypoperfusion, with Tmax; 1: the whole truth, without
            kind = ("desc-hypoperfusion_mask", "desc-truth_mask")[k]
            smaller = ndimage.binary_erosion(label.hypoperfusion).astype(np.uint8)
            save_volume(mni_file(folder, name, kind), smaller, GRID_AFFINE)
            if k == 1:
                mni_file(folder, name, "tmax").unlink()
            *_, rows[k] = mni_patient.load_labelled(folder, row)
    return folder, pd.DataFrame(rows)


def test_edited_segmentations_are_drawn_beside_those_computed(with_counts, edited_cohort):
    folder, table = edited_cohort
    patients = dataclasses.replace(with_counts, table=table, volumes=folder)
    figure = examples.edited(patients)
    texts = [t.get_text() for axes in figure.axes for t in axes.texts if "sub-" in t.get_text()]
    by_name = {text.split("\n")[0]: text for text in texts}
    first, second, third = table["participant_id"]
    assert set(by_name) == {first, second} and third not in by_name
    assert "edited mask" in by_name[first] and "\ncomputed " in by_name[first]
    assert "edited truth" in by_name[second] and "no Tmax: not computed" in by_name[second]
    assert f"used {table['truth_ml'][0]:.0f} mL" in by_name[first]


def test_edits_are_ranked_by_where_they_differ_not_by_the_core(with_counts, edited_cohort):
    """A large core is no edit, and who has no Tmax comes last."""
    folder, table = edited_cohort
    rows = [dict(row) for _, row in table.iterrows()]
    found = [examples._segmentations(folder, row["participant_id"], row["side"]) for row in rows]
    assert [each.changed_ml is None for each in found] == [False, True, False]
    assert found[2].changed_ml == 0  # nobody edited it
    first = found[0]
    by_hand = (first.masks["used"] & ~first.masks["computed"]).sum()
    by_hand += (first.masks["computed"] & ~first.masks["used"]).sum()
    assert first.changed_ml == pytest.approx(by_hand * rows[0]["voxel_ml"]) and first.changed_ml > 0
    # The third as if edited, into just what was computed: its core is no edit.
    name = rows[2]["participant_id"]
    mask = found[2].masks["computed"].astype(np.uint8)
    save_volume(mni_file(folder, name, "desc-truth_mask"), mask, GRID_AFFINE)
    *_, rows[2] = mni_patient.load_labelled(folder, rows[2])
    assert rows[2]["truth_from"] == "edited truth"
    rows[2]["core_ml"] = rows[2]["truth_ml"]  # the rule of volumes ranked by these two
    rows[2]["hypoperfusion_ml"] = 0.0
    figure = examples.edited(
        dataclasses.replace(with_counts, table=pd.DataFrame(rows), volumes=folder)
    )
    texts = [t.get_text() for axes in figure.axes for t in axes.texts if "sub-" in t.get_text()]
    order = [rows[k]["participant_id"] for k in (0, 2, 1)]  # without Tmax comes last
    assert [text.split("\n")[0] for text in texts] == order
    assert f"differ\nin {first.changed_ml:.0f} mL" in texts[0] and "differ\nin 0 mL" in texts[1]
    assert "no Tmax: not computed" in texts[2]


def test_edited_segmentations_that_cannot_be_drawn_say_why(with_counts, edited_cohort):
    folder, table = edited_cohort
    patients = dataclasses.replace(with_counts, table=table, volumes=folder)
    assert "does not say whose" in examples.edited(with_counts)
    assert "--cohort=MNI" in examples.edited(dataclasses.replace(patients, volumes=None))
    nobody = dataclasses.replace(patients, table=table[2:].reset_index(drop=True))
    assert examples.edited(nobody) == "no patient's segmentation was edited"
    other = table.assign(truth_ml=table["truth_ml"] + 1)
    said = examples.edited(dataclasses.replace(patients, table=other))
    assert "the cohort has changed since; build the records" in said
    shutil.rmtree(folder)
    assert "cannot be read" in examples.edited(patients)
