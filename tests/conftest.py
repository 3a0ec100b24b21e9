"""Fixtures of several test files, and the devices that all tests run on."""

import importlib.util
import os

import numpy as np
import pytest
import tensorflow as tf

pytest.register_assert_rewrite("helpers")  # Else its assertions show no values.

from helpers import datasets  # noqa: E402

# If jax is installed, TensorFlow imports it, and jax sets this variable to 1
# for all programs that the tests start. Our programs set it to 3.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# No test asks the metadata server of the machine that it runs on.
os.environ["NO_GCE_CHECK"] = "true"
# Before TensorFlow starts: four devices, to train on up to four replicas.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
)
if importlib.util.find_spec("jax"):
    from bert_pretrain.tpu import execution

    # As many devices, whichever test starts jax.
    execution.request_devices(4)


@pytest.fixture
def make_dataset(tmp_path):
    """Writes datasets: `make_dataset(train=(30, 30))` returns the folder."""
    return datasets.maker(tmp_path)


@pytest.fixture
def make_dataset_of_rows(make_dataset):
    """Writes datasets of one training shard, which fixes the rows' order.

    `make_dataset_of_rows("set", numbers, spoilt)` has the rows of those
    numbers; training on a spoilt row gives NaN.
    """

    def make(name, numbers, spoilt=()):
        data_dir = make_dataset(name, train=(24,), pairing="nsp")
        rows = datasets.random_rows(24)
        rows["masked_lm_weights"][list(spoilt)] = np.nan
        datasets.replace_training_rows(
            data_dir, {k: v[list(numbers)] for k, v in rows.items()}
        )
        return data_dir

    return make


@pytest.fixture
def make_config(make_dataset, tmp_path):
    """A run of one small layer: `make_config(total_steps=9)`."""
    # Imports the whole trainer, which the builder's tests do not need.
    from helpers import training

    def make(data_dir=None, model_dir="model", **values):
        return training.config(
            tmp_path,
            data_dir or make_dataset(train=(13, 7, 9), pairing="nsp"),
            model_dir,
            **values,
        )

    return make


@pytest.fixture
def text(tmp_path):
    """A folder of made-up news and their vocabulary."""
    from helpers import builds

    builds.write_vocabulary(f"{tmp_path}/vocab.txt")
    builds.write_news(f"{tmp_path}/news-1.jsonl")
    builds.write_news(f"{tmp_path}/news-2.jsonl", seed=1)
    return str(tmp_path)
