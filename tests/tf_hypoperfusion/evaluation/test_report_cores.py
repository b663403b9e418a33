"""The table of cores: figures by hand, and what is refused."""

import numpy as np
import pytest
from helpers.evaluated_cohorts import table_of

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.evaluation.report import cores, page

# True, predicted, the rule's core in mL, DAWN.
ROWS = [(100.0, 90.0, 10.0, True), (100.0, 90.0, 80.0, False), (60.0, 50.0, 0.0, False)]
CORES = {
    "core_dice": [0.8, 0.6, np.nan],
    "core_rule_dice": [1.0, 0.5, np.nan],
    "core_learnt_ml": [12.0, 40.0, 3.0],
    "core_truth_ml": [10.0, 50.0, 0.0],
}


def test_both_cores_beside_the_true_one(write, tmp_path):
    evaluated = write(table_of(ROWS).assign(**CORES))
    table = cores.cores(evaluated, "stata")
    learnt, rule = table.rows
    assert learnt[:3] == ["by the networks", "0.70 (0.60 to 0.80)", "2.0 (−10 to 3.0)"]
    assert rule[:3] == ["by the rule", "0.75 (0.50 to 1.00)", "0 (0 to 30)"]
    assert learnt[4].startswith("3.0") and rule[4].startswith("0 ")
    # Of the second patient 100 mL and a core of 50 are a mismatch, 90 and 40 too, 90 and 80 not.
    assert learnt[5].startswith("3/3") and rule[5].startswith("2/3")
    assert (
        "the 2 patients with a true core. For 1 of them the true core is the rule's own"
        in " ".join(table.notes)
    )
    page.write_report(tmp_path / "report", evaluated)
    assert "The core: by the networks" in (tmp_path / "report/report.md").read_text()
    assert (tmp_path / "report/tables/cores.csv").is_file()


def test_networks_without_a_core_have_no_table(write):
    assert cores.cores(write(table_of(ROWS)), "stata") is None


def test_half_of_the_columns_is_refused(write):
    with pytest.raises(InputError, match="no column core_truth_ml, but core_dice, core_rule_dice"):
        write(table_of(ROWS).assign(**CORES).drop(columns="core_truth_ml"))
