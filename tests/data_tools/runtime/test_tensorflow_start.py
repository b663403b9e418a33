"""What TensorFlow says while it runs, and what it need not say."""

import pytest

from data_tools.runtime import tensorflow_start

pytestmark = pytest.mark.core


def test_a_function_for_each_network_is_no_reason_for_a_warning(caplog):
    tensorflow_start.prepare()
    import tensorflow as tf

    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        for _ in range(12):
            tf.function(lambda x: x + 1)(tf.constant(1))
        logger.warning("5 out of the last 5 calls to f triggered tf.function retracing.")
        logger.warning("the disk is slow")
    finally:
        logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"the disk is slow"}  # twice where it reaches the root logger
