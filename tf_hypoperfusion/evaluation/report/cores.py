"""The core by networks that answer with one, and by the rule, beside the true one."""

from data_tools import criteria
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.evaluation.report.patients import CORE, Patients
from tf_hypoperfusion.evaluation.report.table import ML, Table, share, who_counts, with_interval


def cores(patients: Patients, interval: str) -> Table | None:
    """A line for the networks' core and one for the rule's; None of networks without.

    Args:
        patients: evaluated.
        interval: of proportions; see :func:`statistics.proportion`.
    """
    if not set(CORE) <= set(patients.table):
        return None
    table = Table(
        "cores",
        "The core: by the networks and by the rule",
        ["Core", "Dice", "Volume difference (mL)", "Concordance", "mL where there is none",
         "Target mismatch right"],
        program=patients.program,
    )  # fmt: skip
    truth_ml = patients.values("core_truth_ml")
    true_mismatch = criteria.target_mismatch(patients.values("truth_ml"), truth_ml)
    for name, dice, volume in (
        ("by the networks", "core_dice", "core_learnt_ml"),
        ("by the rule", "core_rule_dice", "core_ml"),
    ):
        volume_ml = patients.values(volume)
        difference_ml = volume_ml - truth_ml
        without_ml = volume_ml[truth_ml == 0]
        concordance = statistics.concordance(truth_ml, volume_ml)
        said = criteria.target_mismatch(patients.values("predicted_ml"), volume_ml)
        right = statistics.proportion(int((said == true_mismatch).sum()), len(said), interval)
        table.median(name, "Dice of the core", patients.values(dice))
        table.median(name, "core volume difference (mL)", difference_ml)
        table.number(name, "concordance of core volumes", concordance)
        table.median(name, "core (mL) where there is none", without_ml)
        table.number(name, "target mismatch right", right)
        table.rows.append(
            [
                name,
                table.spread(patients.values(dice), 2),
                table.spread(difference_ml, ML),
                with_interval(concordance),
                table.spread(without_ml, ML),
                share(right),
            ]
        )
    by_rule = int((patients.values("core_rule_dice") == 1).sum())
    table.notes = [
        who_counts(patients),
        f"Dice is of the {(truth_ml > 0).sum()} patients with a true core. For {by_rule} of them "
        "the true core is the rule's own, since nobody gave another.",
        "Target mismatch is decided by the predicted volume and each core, and compared with the "
        "decision by both true volumes. The other tables decide by the rule's core.",
    ]
    return table
