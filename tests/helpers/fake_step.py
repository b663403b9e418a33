"""A step without a network, for tests of what surrounds one: a fold of it costs milliseconds."""

import shutil
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from data_tools.runtime import atomic
from tf_hypoperfusion.training.fold_data import FoldData


def without_slabs(patch):
    """Build no pipelines, since a :class:`FakeStep` takes no batch: a second less for each fold."""
    patch.setattr(FoldData, "training", lambda data, first_epoch, first_step: iter(()))
    patch.setattr(FoldData, "validation", lambda data: iter(()))


class FakeStep:
    """Adds a draw to its one weight; the loss falls as the weight grows.

    The draw depends on the settings and on the number of the step, so that a run which goes on
    with another weight, at another step or with other settings ends elsewhere. The slabs are not
    looked at.
    """

    def __init__(self, strategy, model_config, config, steps_per_epoch):
        self.state = [tf.Variable(0.0)]
        self.parameters = 1
        self.settings = zlib.crc32(repr((model_config, config)).encode())

    def train(self, batches, step):
        """One step; returns its sums and the seconds waited."""
        self.state[0].assign_add(np.random.default_rng([self.settings, step]).random())
        return tf.constant(self.sums(), tf.float32), 0.0

    def evaluate(self, batches, count):
        """Sums as of a slab."""
        return self.sums()

    def sums(self):
        """Of one slab: its weight, the means of :data:`epoch_metrics.MEANS`, overlap, total."""
        loss = 1 / (1 + self.state[0].numpy())
        return np.array([1, loss, loss, loss, loss, loss, 1 - loss, 2], np.float64)

    def synchronise(self):
        """Nothing: there is one weight."""

    def predict(self, images, nihss):
        """Nothing is hypoperfused."""
        return np.zeros((*images.shape[:-1], 1), np.float32)

    def graph(self):
        """An empty one."""
        return tf.Graph()

    def save_for_inference(self, path):
        """A zip file, as a .keras file is one, of the weight."""
        with atomic.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr("weight", repr(float(self.state[0].numpy())) * 500)


def keeping(network):
    """A step whose fold keeps a copy of this ``.keras`` file, so that it can be evaluated."""

    class Keeping(FakeStep):
        def save_for_inference(self, path):
            with atomic.replacing(path) as temporary:
                shutil.copy(network, temporary)

    return Keeping
