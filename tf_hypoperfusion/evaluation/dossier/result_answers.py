"""Sentences about the evaluation and its statistics."""

from tf_hypoperfusion.evaluation.dossier import stations
from tf_hypoperfusion.evaluation.dossier.data_answers import derived, whether_simulated
from tf_hypoperfusion.evaluation.dossier.fact import (
    Answer,
    Fact,
    Known,
    derive,
    holds,
    perhaps,
    say,
    together,
)
from tf_hypoperfusion.evaluation.dossier.result_facts import ALL
from tf_hypoperfusion.evaluation.dossier.study import Study

INTERVALS = {
    "stata": "logit intervals, as Stata has them",
    "wilson": "Wilson's score intervals",
    "exact": "exact intervals (Clopper and Pearson)",
}


def metrics(study: Study) -> Answer:
    """What was measured."""
    return say("These figures were computed: {measures}.", measures=study.result.measures)


def uncertainty(study: Study) -> Answer:
    """Intervals and tests."""
    settings = study.result.settings
    interval = derive(lambda name: INTERVALS.get(name, name), settings.fact("interval"))
    return together(
        say("Proportions have 95% {interval}.", interval=interval),
        say("Medians have bootstrap intervals (seed {seed}).", seed=settings.fact("seed")),
        perhaps(say("Quartiles and rank tests: {tests}.", tests=study.result.tests)),
    )


def sensitivity(study: Study) -> Answer:
    """What changes with the threshold, and without a visible core."""
    result = study.result
    steps = [
        (
            threshold,
            result.number("operating_points", f"threshold {threshold}", "median (IQR) Dice"),
        )
        for threshold in ("0.3", "0.5", "0.7")
    ]
    cores = [
        (name, result.number("table3_segmentation", f"Baseline core {name}", "median (IQR) Dice"))
        for name in (">0 mL", "equal to 0 mL")
    ]
    return together(
        *(
            say(f"Median Dice at a threshold of {name}: {{dice}}.", dice=dice)
            for name, dice in steps
        ),
        *(perhaps(say(f"With a core {name}: {{dice}}.", dice=dice)) for name, dice in cores),
    )


def internal(study: Study) -> Answer:
    """Patients of the training cohort, by folds that did not see them."""
    seen = study.seen
    if isinstance(seen, Fact) and seen.value:
        return together(
            say("Predicted by a fold that had seen them: {n} of {all} patients.", n=seen,
                all=study.result.evaluated),
            left="Their figures do not count as a test: evaluate again.",
        )  # fmt: skip
    return together(
        whether_simulated(study),
        say(
            "{who} of {folds}, each predicted by a fold that they neither trained nor tuned.",
            who=study.result.tested, folds=study.result.folds, seen=seen,
        ),
        perhaps(loss_beside_tests(study)),
        _of_absent_folds(study),
    )  # fmt: skip


def loss_beside_tests(study: Study) -> Answer:
    """Tuning and test figures side by side."""
    return say(
        "Lowest loss on tuning patients: {best}. Median Dice of test patients: {dice}.",
        best=study.network.best, dice=_median(study, "Dice"),
    )  # fmt: skip


def _of_absent_folds(study: Study) -> Answer:
    subsets, folds = study.data.subsets, study.result.folds
    if not (isinstance(subsets, Fact) and isinstance(folds, Fact)):
        return Answer()
    tested = {row.get("fold") for row in study.result.rows}
    absent = [str(k) for k in range(subsets.value) if str(k) not in tested]
    if not absent or "all" in tested:
        return Answer()
    return together(
        say(
            f"Of {{n}} folds these were not evaluated: {', '.join(absent)}.", n=subsets, folds=folds
        ),
        left="Train and evaluate all folds, or state why not.",
    )


def external(study: Study) -> Answer:
    """Another cohort; why there is none only the authors know."""
    number = study.result.number
    return together(
        say("Evaluated beside the training cohort: {cohorts}.", cohorts=study.result.external),
        perhaps(say(
            "Median Dice in the external cohort (95% interval): {dice}.",
            dice=number("external_agreement", ALL, "Median Dice"),
        )),
        perhaps(say(
            "Accuracy for target mismatch there (95% interval): {accuracy}.",
            accuracy=number("external_table2_target_mismatch", f"{ALL}: Model", "accuracy"),
        )),
    )  # fmt: skip


def differences(study: Study) -> Answer:
    """Between the data of development and evaluation."""
    if isinstance(study.result.external, Fact):
        return together(
            external(study),
            left="State how setting, eligibility, reference and inputs of the cohorts differ.",
        )
    return together(
        whether_simulated(study),
        say(
            "None by design: test patients are other patients of the same cohort, {name}. Folds: "
            "{roles}.",
            name=study.data.name, roles=study.network.roles,
        ),
    )  # fmt: skip


def patient_flow(study: Study) -> Answer:
    """How many patients were at each station, and why others were left out."""
    return together(
        whether_simulated(study),
        say("Patients: {stations}.", stations=stations.in_words(study.flow)),
        say(
            "Left out, by reason: {lost}.",
            lost=derive(stations.losses_in_words, study.flow.reasons),
        ),
        Answer(left=f"Does not add up: {study.flow.faults[0]}." if study.flow.faults else ""),
    )


def _median(study: Study, measure: str) -> Known:
    return study.result.number("agreement", ALL, f"Median {measure}")


def performance(study: Study) -> Answer:
    """Segmentation, with intervals."""
    concordance = study.result.number(
        "agreement", ALL, "Concordance of true and predicted volume (bootstrap)"
    )
    return together(
        whether_simulated(study),
        *(
            say(f"Median {name} (95% interval): {{value}}.", value=_median(study, measure))
            for name, measure in (
                ("Dice", "Dice"),
                ("AUC", "AUC"),
                ("volume difference, mL", "Volume difference (mL)"),
            )
        ),
        say("Concordance of volumes: {value}.", value=concordance),
        perhaps(external(study)),
    )


def diagnostic(study: Study) -> Answer:
    """Target mismatch, with intervals."""
    return together(
        whether_simulated(study),
        *(
            say(
                f"{name} for target mismatch (95% interval): {{value}}.",
                value=study.result.number("table2_target_mismatch", f"{ALL}: Model", measure),
            )
            for name, measure in (
                ("Sensitivity", "sensitivity"),
                ("Specificity", "specificity"),
                ("Accuracy", "accuracy"),
            )
        ),
    )


def all_performance(study: Study) -> Answer:
    """Segmentation, decision and calibration of probabilities."""
    return together(
        whether_simulated(study),
        performance(study),
        diagnostic(study),
        perhaps(say(
            "Expected calibration error of the probabilities: {error}.",
            error=study.result.number("reliability", "All patients", "expected calibration error"),
        )),
    )  # fmt: skip


def failures(study: Study) -> Answer:
    """Whom the model is wrong about."""
    return together(
        whether_simulated(study),
        say("Target mismatch: {cells}.", cells=study.result.confusion),
        say("{poor}.", poor=study.result.poor),
        perhaps(say(
            "Median Dice without a visible core: {dice}.",
            dice=study.result.number(
                "table3_segmentation", "Baseline core equal to 0 mL", "median (IQR) Dice"
            ),
        )),
    )  # fmt: skip


def updating(study: Study) -> Answer:
    """Recalibration, and thresholds chosen afterwards."""
    result = study.result
    if holds(result.chosen):
        return say(
            "Beside the fixed threshold, one was chosen for each fold on its tuning patients: "
            "{chosen}.",
            chosen=result.chosen,
        )
    if holds(result.calibration):
        return say(
            "The probabilities were calibrated; the report shows them before and after ({file}).",
            file=result.calibration,
        )
    return say(
        "None: no threshold was chosen and no calibration was applied.",
        chosen=result.about.absent("chosen_thresholds"),
        calibration=result.settings.absent("calibration"),
    )


def prediction(study: Study) -> Answer:
    """How an answer about a patient came about."""
    about = study.result.about
    own = holds(about.fact("cohort")) or holds(about.fact("external"))
    stride = about.fact("stride") if own else study.data.stride  # else those of the records
    return together(
        say(
            "Each patient was predicted in windows every {stride} slices, by {folds}; where "
            "windows overlap, their probabilities were averaged. Machines: {machines}.",
            stride=stride, folds=study.result.folds, machines=about.fact("machines"),
        ),
        output(study),
        perhaps(say("Seconds per patient: {seconds}.", seconds=about.fact("seconds_per_patient"))),
    )  # fmt: skip


def output(study: Study) -> Answer:
    """Probability, threshold and decision."""
    return together(
        say(
            "The answer is a probability in each voxel; one of {threshold} and more is "
            "hypoperfused.",
            threshold=study.result.threshold,
        ),
        say(
            "Target mismatch is {decision}, of the hypoperfused volume against the core's.",
            decision=study.result.decision,
        ),
        perhaps(say("Other thresholds: {chosen}.", chosen=study.result.chosen))
        if holds(study.result.chosen)
        else Answer(),
    )


def groups(study: Study) -> Answer:
    """Figures by sex; whether that is fair only the authors can say."""
    return together(
        say("Median Dice by sex: {dice}.", dice=study.result.by_sex),
        left="State how fairness was looked at, and in which other groups.",
    )


def clusters(study: Study) -> Answer:
    """Figures by field strength, the only cluster of the table that all cohorts have."""
    return say("Median Dice by field strength, T: {dice}.", dice=study.result.by_field)


def heterogeneity(study: Study) -> Answer:
    """What was done about clusters of patients."""
    if not holds(study.data.sites):
        return Answer(missing=("records/manifest.json: patients[].site",))
    return say(
        "The patients of {n} sites were divided {way}.",
        n=derive(len, study.data.sites), way=study.data.dividing,
    )  # fmt: skip


def limitations(study: Study) -> Answer:
    """What the evaluation warned of, and what the model's card says."""
    warned = study.result.warnings
    return together(
        whether_simulated(study),
        perhaps(derived(study)),
        perhaps(say("The evaluation warned: {warnings}.", warnings=warned))
        if holds(warned)
        else Answer(),
        perhaps(
            say("By the model's card: {limits}", limits=derive(" ".join, study.card.fact("limits")))
        ),
        left="State the study's own limitations.",
    )


def draft(study: Study) -> Answer:
    """The parts of an abstract that the files know."""
    return together(
        whether_simulated(study),
        say(
            "{patients} of {name} were studied.", patients=study.data.patients, name=study.data.name
        ),
        performance(study),
        left="Write the abstract: background, design, conclusions.",
    )
