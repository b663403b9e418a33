"""Sentences about patients, images, reference and division."""

import dataclasses

from data_tools.runtime.errors import counted
from tf_hypoperfusion.evaluation.dossier import stations
from tf_hypoperfusion.evaluation.dossier.fact import (
    Answer,
    Fact,
    Missing,
    derive,
    first,
    holds,
    in_words,
    perhaps,
    say,
    together,
)
from tf_hypoperfusion.evaluation.dossier.study import Study

SIMULATED = "The patients are SIMULATED."


def whether_simulated(study: Study) -> Answer:
    """A remark that patients are SIMULATED; nothing where they are not."""
    if not holds(study.data.simulated):
        return Answer()
    return dataclasses.replace(say(SIMULATED, simulated=study.data.simulated), remark=True)


def sources(study: Study) -> Answer:
    """Where the data came from."""
    data = study.data
    left = (
        ""
        if isinstance(data.origin, Fact)
        else "State where the data can be found, and since when."
    )
    if holds(data.simulated) and isinstance(data.made_by, Fact):
        left = ""
    return together(
        whether_simulated(study),
        say("The data are those of {patients} of {name}.", patients=data.patients, name=data.name),
        perhaps(say("They came from {origin}.", origin=data.origin)),
        perhaps(say("To be cited as {said}.", said=data.acknowledgement)),
        perhaps(say("Licence: {licence}.", licence=data.licence)),
        perhaps(say("Written by {made_by}.", made_by=data.made_by)),
        left=left,
    )


def sites(study: Study) -> Answer:
    """How many hospitals, as far as the table names them."""
    if not holds(study.data.sites):
        return Answer(missing=("records/manifest.json: patients[].site",))
    return together(
        whether_simulated(study),
        say(
            "The patients are from {n} sites: {sites}.",
            n=derive(len, study.data.sites), sites=study.data.sites,
        ),
        left="State what kind of hospitals these are, and where.",
    )  # fmt: skip


def eligibility(study: Study) -> Answer:
    """Whom the software left out; who came into the table only the authors know."""
    return together(
        whether_simulated(study),
        say(
            "Left out, by reason: {lost}.",
            lost=derive(stations.losses_in_words, study.flow.reasons),
        ),
        perhaps(say(
            "Strokes of other territories than the ICA's and MCA's were kept: {kept}.",
            kept=first(
                study.data.other_territories, study.result.about.fact("other_territories")
            ),
        )),
        left="State by which clinical criteria patients came into the cohort's table.",
    )  # fmt: skip


def preprocessing(study: Study) -> Answer:
    """From files to network inputs."""
    data = study.data
    return together(
        say("The images were prepared by {made_by}.", made_by=data.made_by),
        perhaps(say("Fits to the template (patients): {kinds}.", kinds=data.registrations)),
        say("They lie in {grid}.", grid=data.grid),
        say("{scaled}.", scaled=data.normalising),
        perhaps(say("Quality control (patients): {verdicts}.", verdicts=data.verdicts)),
        perhaps(derived(study)),
    )


def windows(study: Study) -> Answer:
    """Which parts of the images the network was given."""
    data = study.data
    return together(
        say(
            "Each volume was cut into windows of {slab} voxels, one every {stride} slices: {slabs} "
            "windows of {patients}.",
            slab=data.slab, stride=data.stride, slabs=data.slabs, patients=data.patients,
        ),
        perhaps(say(
            "The network computes on the {frame} columns and rows about the brain.",
            frame=study.network.model("frame"),
        )),
    )  # fmt: skip


def derived(study: Study) -> Answer:
    """What was computed in place of being measured; nothing where everything was measured."""
    if not holds(study.data.derived):
        return Answer()
    return say(
        "Computed, not measured, with the number of patients: {derived}.",
        derived=study.data.derived,
    )


def missing_data(study: Study) -> Answer:
    """How much was missing, and what was done about it."""
    data, network = study.data, study.network
    return together(
        say("The NIHSS is unknown for {n} of {all}.", n=data.nihss_missing, all=data.visits),
        say("The side is unknown for {n} of {all}.", n=data.sides_unknown, all=data.visits),
        perhaps(say("Images that patients lack: {lacking}.", lacking=data.lacking)),
        perhaps(derived(study)),
        say("{scaled}.", scaled=data.normalising),
        perhaps(say(
            "The network is told which inputs are there: {flags}.",
            flags=network.model("presence_flags"),
        )),
        perhaps(say(
            "Random changes in training, which may leave inputs out: {randomisation}.",
            randomisation=network.training("randomisation"),
        )),
    )  # fmt: skip


def acquisition(study: Study) -> Answer:
    """What the files say about scanners and sequences."""
    data = study.data
    return together(
        whether_simulated(study),
        say("Field strength, T (patients): {fields}.", fields=data.fields_t),
        say("b-value of the DWI, s/mm² (patients): {values}.", values=data.b_values),
        say("Voxels, mm: {spacings}.", spacings=data.spacings_mm),
        left="State manufacturers, models, sequences and their times.",
    )


def reference(study: Study) -> Answer:
    """What the predictions are compared with."""
    data = study.data
    unnamed = _has_tmax(study) and not holds(data.tmax_from) and not holds(data.simulated)
    return together(
        whether_simulated(study),
        say("The reference lesion was made of (patients): {truth}.", truth=data.truth_from),
        say(
            "Hypoperfusion is Tmax of at least, in s (patients): {limits}.",
            limits=data.tmax_thresholds_s,
        ) if _has_tmax(study) else Answer(),
        _with_core(study),
        perhaps(say(
            "Labels outside the stroke's half of the brain were removed: {cut}.",
            cut=data.within_side,
        )),
        perhaps(say("Tmax was made of raw series as follows: {how}.", how=data.tmax_from))
        if holds(data.tmax_from) else Answer(),
        left="Name the program, with its version, that made the Tmax maps." if unnamed else "",
    )  # fmt: skip


def _with_core(study: Study) -> Answer:
    """What the reference has beside hypoperfusion; a whole truth that a person edited has not."""
    truth = study.data.truth_from
    edited = isinstance(truth, Fact) and "edited truth" in truth.value
    return say(
        ("Where it was not edited as a whole, it" if edited else "It")
        + " is united with the core: tissue that is bright on DWI, with an ADC of at most {adc} × "
        "10⁻⁶ mm²/s.",
        adc=study.data.core_rule, truth=truth,
    )  # fmt: skip


def _has_tmax(study: Study) -> bool:
    truth = study.data.truth_from
    return isinstance(truth, Fact) and "Tmax" in truth.value


def annotators(study: Study) -> Answer:
    """Who made the reference."""
    data = study.data
    if isinstance(data.edited, Missing):
        return Answer(missing=(str(data.edited),))
    if not data.edited.value:
        return together(whether_simulated(study), say(
            "No person drew or edited a reference lesion: all {all} were computed.",
            all=data.visits, edited=data.edited,
        ))  # fmt: skip
    return together(
        say(
            "A person drew or edited the reference lesion of {edited} of {all} patients.",
            edited=data.edited, all=data.visits,
        ),
        left="State who did so, their training, and what they were shown.",
    )  # fmt: skip


def annotation_of_tests(study: Study) -> Answer:
    """How the reference of the test patients was made."""
    return together(
        say(
            "Test patients are those of the same records as training patients, and their "
            "reference was made likewise (patients): {truth}.",
            truth=study.data.truth_from, roles=study.network.roles,
        ),
        _of_edited(study, "Name the tool that the reference lesions were edited with."),
    )  # fmt: skip


def variability(study: Study) -> Answer:
    """Between raters, and within one."""
    if isinstance(study.data.edited, Fact) and not study.data.edited.value:
        return say(
            "It does not arise: all {all} reference lesions were computed.",
            all=study.data.visits, edited=study.data.edited,
        )  # fmt: skip
    return Answer(missing=(f"{study.result.about.name}: ratings by several persons",))


def _of_edited(study: Study, left: str) -> Answer:
    return Answer(left=left) if holds(study.data.edited) else Answer()


def blinding(study: Study) -> Answer:
    """Whether the reference knows the inputs: it holds the core by DWI and ADC."""
    return together(
        annotators(study),
        say(
            "The reference is not independent of the inputs: it includes the core, which is found "
            "in DWI and ADC (at most {adc} × 10⁻⁶ mm²/s), and the network is given both.",
            adc=study.data.core_rule,
        ),
        _of_edited(study, "State whether they knew the predictions, and the clinical course."),
    )


def partitions(study: Study) -> Answer:
    """Who trains, tunes and tests."""
    data = study.data
    return together(
        say(
            "{patients} were divided into {n} subsets of {sizes} patients, {way} (seed {seed}).",
            patients=data.patients, n=data.subsets, sizes=data.subset_sizes, way=data.dividing,
            seed=data.seed,
        ),
        say("Folds: {roles}.", roles=study.network.roles),
    )  # fmt: skip


def disjointness(study: Study) -> Answer:
    """At which level the subsets are disjoint, as splits.json shows."""
    data = study.data
    shared = data.disjoint
    if isinstance(shared, Fact) and shared.value:
        return together(
            say("In more than one subset: {n} of the patients and groups.", n=shared),
            left="Explain why, and what it does to the figures.",
        )
    return together(
        say(
            "The {n} subsets are disjoint at the level of patients: no patient, visit of a patient "
            "or group named in the table is in two of them.",
            n=data.subsets, shared=shared,
        ),
        perhaps(say("Pairs of the same head under two names: {pairs}.", pairs=data.duplicates)),
    )  # fmt: skip


def characteristics(study: Study) -> Answer:
    """Who the patients are; by subset in the dossier's table."""
    data = study.data
    lacking = [
        word
        for word, fact in (("age", data.ages), ("sex", data.sexes), ("NIHSS", data.nihss))
        if isinstance(fact, Fact)
        and (in_words(fact.value).startswith("unknown for all") or list(fact.value) == ["unknown"])
    ]
    return together(
        whether_simulated(study),
        say("Age, years: {ages}.", ages=data.ages),
        say("Sex: {sexes}.", sexes=data.sexes),
        say("NIHSS: {nihss}.", nihss=data.nihss),
        say("Side: {sides}.", sides=data.sides),
        say("Occlusion: {occlusions}.", occlusions=data.occlusions),
        perhaps(say("Field strength, T: {fields}.", fields=data.fields_t)),
        perhaps(say("{lesions}.", lesions=study.result.lesions)),
        left=f"Add what no file tells: {in_words(lacking)}." if lacking else "",
    )


def by_subset(study: Study) -> Answer:
    """Characteristics of the subsets, each of which tests one fold."""
    return together(
        say("Folds: {roles}.", roles=study.network.roles),
        say("The subsets: {rows}.", rows=derive(_subsets_in_words, study.data.by_subset)),
    )


def _subsets_in_words(rows: list[list[str]]) -> str:
    """Patients, reference lesion and core of each; the rest is in the dossier's table."""
    return "; ".join(f"{name}: {' | '.join(cells)}" for name, *cells in rows[:1] + rows[-2:])


def numbers(study: Study) -> Answer:
    """How many patients and lesions each part of the analysis has."""
    return together(
        say("Subsets have {sizes} patients.", sizes=study.data.subset_sizes),
        say("Folds: {roles}.", roles=study.network.roles),
        say("Evaluated: {who}. {lesions}.", who=study.result.tested, lesions=study.result.lesions),
    )


def size(study: Study) -> Answer:
    """How many there are; why so many only the authors know."""
    return together(
        whether_simulated(study),
        say("There are {patients}.", patients=study.data.patients),
        say("Tested were {who}.", who=study.result.tested),
        left="State how this number was arrived at, and why it is enough.",
    )


def assessed_predictors(study: Study) -> Answer:
    """Which sides a program found; who scored the NIHSS only the authors know."""
    counts = study.data.derived
    if not (isinstance(counts, Fact) and "side" in counts.value):
        return Answer()
    return together(
        say(
            "The side of {who} was computed, not told by a person.",
            who=derive(lambda found: counted(found["side"], "patient"), counts),
        ),
        left="State who assessed NIHSS and the other sides.",
    )


def sharing(study: Study) -> Answer:
    """Where public data came from, and under which licence."""
    data = study.data
    return together(
        perhaps(say("They came from {origin}.", origin=data.origin)),
        perhaps(say("Licence: {licence}.", licence=data.licence)),
        left="State where the data can be had, and under which terms.",
    )


def prepared_by(study: Study) -> Answer:
    """Which program prepared the images."""
    return say("{made_by}.", made_by=study.data.made_by)


def version(study: Study) -> Answer:
    """What identifies the records."""
    return say("These records have the fingerprint {sum}.", sum=study.data.checksums)


def relations(study: Study) -> Answer:
    """Visits, groups and the same head twice."""
    return together(
        say("{patients} in {visits} rows.", patients=study.data.patients, visits=study.data.visits),
        disjointness(study),
    )


def labels(study: Study) -> Answer:
    """What each patient has: images, facts and reference."""
    return together(
        whether_simulated(study),
        say(
            "DWI, ADC, side, NIHSS, brain mask and reference of {patients}.",
            patients=study.data.patients, truth=study.data.truth_from,
        ),
        windows(study),
        reference(study),
    )  # fmt: skip


def quality(study: Study) -> Answer:
    """Fits that are poor, and what was computed."""
    return together(
        say("Quality control (patients): {verdicts}.", verdicts=study.data.verdicts),
        perhaps(derived(study)),
    )
