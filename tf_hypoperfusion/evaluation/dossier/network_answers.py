"""Sentences about the networks, their training and the software."""

from typing import Any

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
from tf_hypoperfusion.evaluation.dossier.files import folds_in_words
from tf_hypoperfusion.evaluation.dossier.study import Study

CHANGED = "The source differed from this commit, and no file says how: state what was changed."


def technology(study: Study) -> Answer:
    """The kind of AI, as a title has it."""
    return say("Deep learning: a 3D convolutional network ({kind}).", kind=_kind(study))


def _kind(study: Study) -> Known:
    def word(gates: Any) -> str:
        if isinstance(gates, bool):
            return "attention U-Net" if gates else "U-Net without attention gates"
        return f"U-Net; attention gates: {gates}"

    return derive(word, study.network.model("attention_gates"))


def changed_source(study: Study) -> Answer:
    """What is left to say where the source differed from its commit."""
    if not holds(study.network.changed):
        return Answer()
    return together(
        say(
            "Commit {commit}, changed.", commit=study.network.commit, changed=study.network.changed
        ),
        left=CHANGED,
    )


def architecture(study: Study) -> Answer:
    """Inputs, layers and outputs."""
    network, model = study.network, study.network.model
    return together(
        say(
            "A 3D {kind}: {filters} channels at the first level, doubled at each of {poolings} "
            "poolings; normalisation: {norm}; spatial dropout {dropout}; {parameters} parameters.",
            kind=_kind(study), filters=model("base_filters"), poolings=model("poolings"),
            norm=model("normalisation"), dropout=model("dropout"),
            parameters=network.said("parameters"),
        ),
        inputs(study),
        outputs(study),
        changed_source(study),
    )  # fmt: skip


def inputs(study: Study) -> Answer:
    """What the network is given."""
    model = study.network.model
    return together(
        say(
            "Inputs are DWI, ADC, a mask of low ADC, the stroke's side (used: {side}) and the "
            "NIHSS (used: {nihss}), in windows of {slab} voxels.",
            side=model("side_channel"), nihss=model("nihss_fusion"), slab=study.data.slab,
        ),
        perhaps(say(
            "Channels of contrast beside them: {channels}; told which inputs are there: {flags}.",
            channels=model("contrast_channels"), flags=model("presence_flags"),
        )),
    )  # fmt: skip


def outputs(study: Study) -> Answer:
    """What the network answers."""
    return say(
        "The output is the probability of hypoperfusion in each voxel; probability of core too: "
        "{core}.",
        core=study.network.model("core_output"),
    )


def software(study: Study) -> Answer:
    """Libraries, versions and machines."""
    network = study.network
    return together(
        say("Trained with {versions}.", versions=network.software),
        perhaps(say("Source: commit {commit}.", commit=network.commit)),
        changed_source(study),
        perhaps(say("Machines: {machines}.", machines=network.machines)),
    )


def initial_weights(study: Study) -> Answer:
    """What the weights were before training."""
    network = study.network
    if isinstance(network.parent, Fact):
        return together(
            say("The folds began with the weights of {parent}.", parent=network.parent),
            perhaps(say(
                "Layers that the parent has were kept as they were: {freeze}.",
                freeze=network.training("freeze"),
            )),
        )  # fmt: skip
    return say(
        "The weights were drawn at random (seed {seed}); no trained network was begun with.",
        seed=network.training("seed"), drawn=network.drawn,
    )  # fmt: skip


def training(study: Study) -> Answer:
    """Everything that a training is told."""
    setting, network = study.network.training, study.network
    return together(
        say(
            "Optimizer {optimizer}; learning rate {rate}, which falls to {ratio} of it; batches of "
            "{batch} windows. Epochs asked for: {epochs}; done: {done}.",
            optimizer=setting("optimizer"), rate=setting("learning_rate"),
            ratio=setting("final_learning_rate_ratio"), batch=setting("batch_size"),
            epochs=setting("epochs"), done=network.epochs_done,
        ),
        loss(study),
        say(
            "Mirrored left to right at random: {mirror}; other random changes: {randomisation}.",
            mirror=setting("mirror"), randomisation=setting("randomisation"),
        ),
        say(
            "Epochs of warm-up: {warmup}; moving average of weights: {average} (0 is none); epochs "
            "without gain before stopping: {patience} (0 is never); arithmetic: {precision}; seed "
            "{seed}.",
            warmup=setting("warmup_epochs"), average=setting("ema_momentum"),
            patience=setting("patience"), precision=network.said("resolved.precision"),
            seed=setting("seed"),
        ),
        perhaps(say("Steps in an epoch: {steps}.", steps=network.said("steps_per_epoch"))),
        changed_source(study),
        unfinished(study),
    )  # fmt: skip


def loss(study: Study) -> Answer:
    """What training lowers."""
    setting = study.network.training
    return say(
        "The loss is the sum of cross entropy (weight {bce}), Dice loss ({dice}) and relative "
        "volume error ({volume}).",
        bce=setting("bce_weight"), dice=setting("dice_weight"), volume=setting("volume_weight"),
    )  # fmt: skip


def unfinished(study: Study) -> Answer:
    """That folds are not trained to their end; nothing where all are."""
    if not holds(study.network.unfinished):
        return Answer()
    return together(
        say("The training of {folds} is not finished.", folds=study.network.unfinished),
        left="Finish the training, or explain why it was stopped.",
    )


def selection(study: Study) -> Answer:
    """Which weights were kept."""
    network = study.network
    return together(
        say(
            "Of each fold the weights of the epoch with the lowest loss on tuning patients were "
            "kept: {best}.",
            best=network.best, monitored=network.monitored,
        ),
        perhaps(say("The final network of all patients: {note}.", note=network.final)),
        unfinished(study),
    )  # fmt: skip


def building(study: Study) -> Answer:
    """Type of the model, how it was built and tested internally."""
    return together(
        architecture(study), training(study), selection(study),
        perhaps(say("Each fold is tested on patients it did not see: {roles}.",
                    roles=study.network.roles)),
    )  # fmt: skip


def ensembling(study: Study) -> Answer:
    """Whether networks were averaged."""
    averaged, models = study.result.averaged, study.card.fact("models")
    of_export = Answer()
    if isinstance(models, Fact):
        of_export = say("The exported model averages {n} networks.", n=derive(len, models))
    if holds(averaged):
        return together(say(
            "The probabilities of {n} networks were averaged.",
            n=derive(len, study.result.about.fact("models")), averaged=averaged,
        ), of_export)  # fmt: skip
    return together(
        say(
            "Nothing was averaged in the test: one network predicted each patient, of {folds}.",
            folds=study.result.folds, averaged=averaged,
        ),
        of_export,
    )  # fmt: skip


def specification(study: Study) -> Answer:
    """All that is needed to use the model."""
    return together(
        say("The trained networks: {models}.", models=study.result.models),
        say(
            "Their settings stand in config.json of {folds}.",
            folds=derive(folds_in_words, study.network.folds),
        ),
        perhaps(say("Source: commit {commit}.", commit=study.network.commit)),
        perhaps(say(
            "Exported as {name}, version {version}.", name=study.card.fact("name"),
            version=study.card.fact("version"),
        )),
        changed_source(study),
    )  # fmt: skip


def imbalance(study: Study) -> Answer:
    """What was done about few lesion voxels."""
    return together(
        say(
            "No setting of the training resamples patients, windows or voxels. Two terms of the "
            "loss are relative to the size of the lesion: Dice loss (weight {dice}) and relative "
            "volume error ({volume}).",
            dice=study.network.training("dice_weight"),
            volume=study.network.training("volume_weight"),
        ),
        changed_source(study),
    )


def poor_input(study: Study) -> Answer:
    """What happens at use with images that are missing or poor."""
    network = study.network
    return together(
        say(
            "Told which inputs are there: {flags}; trained with random changes: {randomisation}.",
            flags=network.model("presence_flags"), randomisation=network.training("randomisation"),
        ),
        left="State how poor or missing images are to be handled where the model is used.",
    )  # fmt: skip


def availability(study: Study) -> Answer:
    """What there is to be shared."""
    return together(
        say("Software: {versions}.", versions=derive(
            lambda said: f"tf_hypoperfusion {said.get('tf_hypoperfusion', 'of unknown version')}",
            study.network.software,
        )),
        perhaps(say("Commit {commit}.", commit=study.network.commit)),
        perhaps(say("Trained networks: {models}.", models=study.result.models)),
        left="State where software and model can be had, and under which terms.",
    )  # fmt: skip


def title(study: Study) -> Answer:
    """What a title can take from the files."""
    return together(
        technology(study), left="Name development or evaluation, the population and the outcome."
    )


def aims(study: Study) -> Answer:
    """What was done; what for only the authors know."""
    return together(
        say(
            "A network was trained ({folds}; epochs done: {done}).",
            folds=derive(folds_in_words, study.network.folds), done=study.network.epochs_done,
        ),
        say("It was tested on {who}.", who=study.result.tested),
        left="State the aims, and whether the model is new.",
    )  # fmt: skip
