"""What TensorFlow says while it runs, and what it need not say."""

import pytest

from data_tools.runtime import tensorflow_start

pytestmark = pytest.mark.core


@pytest.fixture
def told(caplog):
    """What TensorFlow's logger says."""
    tensorflow_start.prepare()
    import tensorflow as tf

    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def function_of_a_network(counted):
    import tensorflow as tf

    return tf.function(counted(lambda x: x + 1))


def test_a_function_for_each_network_is_no_reason_for_a_warning(told):
    import tensorflow as tf

    for _ in range(12):
        function_of_a_network(tensorflow_start.counted_alone)(tf.constant(1))
    assert told.messages == []


def test_one_that_is_traced_again_and_again_still_is(told):
    import tensorflow as tf

    same = function_of_a_network(tensorflow_start.counted_alone)
    for number in range(12):  # a number of Python's is a function of its own
        same(number)
    assert any("retracing" in message for message in told.messages)
    told.clear()
    for _ in range(12):
        function_of_a_network(lambda function: function)(tf.constant(1))
    assert any("retracing" in message for message in told.messages)
