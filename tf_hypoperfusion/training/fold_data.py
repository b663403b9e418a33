"""A fold's slabs as batches that are shared over the devices of a strategy."""

import functools
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from data_tools.manifest import Manifest
from tf_hypoperfusion.config import TrainingConfig
from tf_hypoperfusion.training import input_pipeline, randomisation
from tf_hypoperfusion.training.input_pipeline import Share, Slabs


class FoldData:
    """Training and validation slabs of a fold.

    Args:
        records_dir: what ``data_tools.build_records`` wrote.
        manifest: of the records.
        subsets: numbers of those that train and validate.
        config: with the final micro-batch.
        strategy: shares the batches.
        cached: hold the records in memory.

    Attributes:
        steps: optimizer steps of an epoch.
        validation_steps: how often every device gets a micro-batch until all is validated.
        validation_slabs: number of slabs that are validated; 0 if no subset validates.

    Raises:
        InputError: too few slabs for a batch, none to validate on, an unknown randomisation.
    """

    def __init__(
        self,
        records_dir: str | Path,
        manifest: Manifest,
        subsets: dict[str, list[int]],
        *,
        config: TrainingConfig,
        strategy: tf.distribute.Strategy,
        cached: bool,
    ):
        self._config, self._strategy = config, strategy
        self._changes = randomisation.parse(config.randomisation)
        self._training = Slabs(records_dir, manifest, subsets["train"], cached)
        validating = subsets["validation"]
        self._validation = Slabs(records_dir, manifest, validating, cached) if validating else None
        everywhere = Share(config.micro_batch, strategy.num_replicas_in_sync)
        self.steps = input_pipeline.training_steps(self._training, config.batch_size)
        self.validation_steps = self.validation_slabs = 0
        if self._validation:
            self.validation_steps = input_pipeline.evaluation_steps(self._validation, everywhere)
            self.validation_slabs = self._validation.total

    def training(self, first_epoch: int, first_step: int) -> Iterator:
        """Endless distributed micro-batches; both numbers are counted from 0."""

        def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return input_pipeline.training_dataset(
                self._training,
                self._config.batch_size,
                self._config.seed,
                mirror=self._config.mirror,
                changes=self._changes,
                first_epoch=first_epoch,
                first_step=first_step,
                share=self._share(context),
            )[0]

        return iter(self._strategy.distribute_datasets_from_function(dataset))

    def validation(self) -> Iterator:
        """Distributed micro-batches of every validation slab, always in the same order."""
        return iter(self._distributed_validation)

    @functools.cached_property
    def _distributed_validation(self) -> tf.distribute.DistributedDataset:
        slabs = self._validation
        if slabs is None:
            raise ValueError("no subset validates")

        def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return input_pipeline.evaluation_dataset(slabs, self._share(context))[0]

        return self._strategy.distribute_datasets_from_function(dataset)

    def _share(self, context: tf.distribute.InputContext) -> Share:
        return Share(
            self._config.micro_batch,
            context.num_replicas_in_sync,
            context.input_pipeline_id,
            context.num_input_pipelines,
        )
