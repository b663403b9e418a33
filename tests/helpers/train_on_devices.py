"""Train a fold of a very small network on several devices: a process that a test starts.

python -m tests.helpers.train_on_devices RECORDS RUN DEVICES MICRO_BATCH
python -m tests.helpers.train_on_devices RECORDS RUN multiworker 0
"""

import sys

from tf_hypoperfusion.config import preset


def settings(micro_batch=0):
    """Without BatchNormalization, which takes its moments per replica; two parts at other rates."""
    return preset(
        "tiny", epochs=2, poolings=1, normalisation="none", dropout=0.0, micro_batch=micro_batch,
        encoder_rate=0.5, output_rate=0.9,
    )  # fmt: skip


def main(records_dir, run, devices, micro_batch):
    """Train."""
    import tensorflow as tf

    if devices != "multiworker":
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * int(devices)
        tf.config.set_logical_device_configuration(cpu, logical)
    from tf_hypoperfusion.training import distribution, trainer

    if devices == "multiworker":
        strategy = distribution.choose_strategy("multiworker")
    else:
        strategy = distribution.choose_strategy(devices=[f"/cpu:{i}" for i in range(int(devices))])
    assert strategy.num_replicas_in_sync == 2
    options = trainer.RunOptions(strategy=strategy, overlay_epochs=0)
    trainer.train_fold(records_dir, run, 0, settings(int(micro_batch)), options=options)


if __name__ == "__main__":
    main(*sys.argv[1:])
