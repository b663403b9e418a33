"""The table of single settings: means over seeds, half their range, and the worst shift."""

from benchmarks import settings_alone, shifts

SHIFTS = ["bias30", "grey_bright", "no_penumbra"]


def held(dice, bias_ml, specificity=(1, 2)):
    return {
        "dice": dice, "bias_ml": bias_ml, "sensitivity": (3, 4), "specificity": specificity,
    }  # fmt: skip


def test_a_line_holds_the_mean_over_seeds_and_half_of_their_range():
    one = {
        shifts.PLAIN: held(0.60, 2), "bias30": held(0.50, -10), "grey_bright": held(0.58, 4),
        "no_penumbra": held(None, 20, (5, 40)),
    }  # fmt: skip
    other = {
        shifts.PLAIN: held(0.64, 2), "bias30": held(0.60, -10), "grey_bright": held(0.44, 4),
        "no_penumbra": held(None, 28, (7, 40)),
    }  # fmt: skip
    line = settings_alone.line("mirror", [one, other], SHIFTS)
    assert line["variant"] == "mirror" and line["seeds"] == 2
    assert line["Dice at home"] == "0.620 +-0.020"
    # Losses 0.10 and 0.02, 0.04 and 0.20: of strokes without penumbra a Dice means nothing.
    assert line["mean loss"] == "0.090 +-0.030"
    assert line["worst"] == "grey_bright 0.11 +-0.09"
    assert line["|bias| mL"] == "10.0 +-1.0"
    assert line["sensitivity"] == "24/32"
    assert line["specificity"] == "18/92"
