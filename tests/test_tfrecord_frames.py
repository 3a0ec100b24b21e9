"""Frames equal those of TensorFlow's writer, byte for byte."""

import numpy as np
import tensorflow as tf

from bert_pretrain.data import tfrecord_frames


def test_frames_are_those_of_tensorflow(tmp_path):
    rng = np.random.default_rng(0)
    lengths = [*range(40), 868, 70_000]
    contents = [rng.bytes(length) for length in lengths]
    framed = tfrecord_frames.frame(
        np.frombuffer(b"".join(contents), np.uint8), np.cumsum(lengths)
    )
    path = str(tmp_path / "theirs.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for content in contents:
            writer.write(content)
    assert framed.tobytes() == (tmp_path / "theirs.tfrecord").read_bytes()


def test_no_records_give_no_bytes():
    nothing = tfrecord_frames.frame(
        np.zeros(0, np.uint8), np.zeros(0, np.int64)
    )
    assert nothing.tobytes() == b""
