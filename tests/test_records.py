"""Our records are those of google-research/bert; a dataset can be checked."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.data import manifests, records, vocabulary


def random_features(num_rows=700, seq_length=128, num_predictions=20):
    rng = np.random.default_rng(0)
    return {
        # Ids of one, two and three bytes as varints.
        "input_ids": rng.choice(
            [0, 5, 127, 128, 16383, 16384, 30521], (num_rows, seq_length)
        ),
        "attention_mask": rng.integers(0, 2, (num_rows, seq_length)),
        "token_type_ids": rng.integers(0, 2, (num_rows, seq_length)),
        "masked_lm_positions": rng.integers(
            0, seq_length, (num_rows, num_predictions)
        ),
        "masked_lm_ids": rng.integers(0, 30522, (num_rows, num_predictions)),
        "masked_lm_weights": rng.random((num_rows, num_predictions)).astype(
            np.float32
        ),
        "next_sentence_labels": rng.integers(0, 2, num_rows),
    }


# google-research/bert, create_pretraining_data.py: the names and types that its
# trainer and all later trainers read.
INT_FEATURES = {
    "input_ids": "input_ids",
    "input_mask": "attention_mask",
    "segment_ids": "token_type_ids",
    "masked_lm_positions": "masked_lm_positions",
    "masked_lm_ids": "masked_lm_ids",
    "next_sentence_labels": "next_sentence_labels",
}


def test_records_equal_those_of_protobuf_byte_for_byte():
    features = random_features()
    for i, serialized in enumerate(records.serialize(features)):
        example = tf.train.Example()
        for file_name, name in INT_FEATURES.items():
            example.features.feature[file_name].int64_list.value.extend(
                np.atleast_1d(features[name][i]).tolist()
            )
        example.features.feature["masked_lm_weights"].float_list.value.extend(
            features["masked_lm_weights"][i].tolist()
        )
        assert serialized == example.SerializeToString(deterministic=True)


def test_parsing_returns_the_serialized_rows():
    features = random_features()
    batch = records.parse(tf.constant(records.serialize(features)), 128, 20)
    assert batch.keys() == features.keys()
    for name, values in features.items():
        np.testing.assert_array_equal(batch[name].numpy(), values)
        assert batch[name].dtype == (
            tf.float32 if name == "masked_lm_weights" else tf.int32
        )


def random_packed_features(num_rows=300, seq_length=64):
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 30, (num_rows, seq_length))
    is_start = np.zeros((num_rows, seq_length + 1), int)
    ends = np.minimum(lengths.cumsum(axis=1), seq_length)
    np.put_along_axis(is_start, ends, 1, axis=1)
    is_start[:, 0] = 1
    document_ids = is_start.cumsum(axis=1)[:, :-1]
    # Every other row ends with padding in place of its last document.
    is_last = document_ids == document_ids.max(axis=1, keepdims=True)
    document_ids[::2][is_last[::2]] = 0
    features = random_features(num_rows, seq_length)
    return features | {"document_ids": document_ids}


def test_packed_rows_have_one_more_feature():
    features = random_packed_features()
    names = set(INT_FEATURES) | {"masked_lm_weights", "document_ids"}
    serialized = records.serialize(features)
    example = tf.train.Example.FromString(serialized[0])
    assert set(example.features.feature) == names
    assert serialized[0] == example.SerializeToString(deterministic=True)
    arrays = records.to_arrays(serialized[7], "shard")
    for name, values in features.items():
        np.testing.assert_array_equal(arrays[name], np.ravel(values[7]))
    batch = records.parse(tf.constant(serialized), 64, 20, is_packed=True)
    for name, values in features.items():
        np.testing.assert_array_equal(batch[name].numpy(), values)
    assert batch.keys() == features.keys() | {"position_ids"}
    # A reader without packing finds its features.
    assert "document_ids" not in records.parse(tf.constant(serialized), 64, 20)


def test_positions_start_from_0_in_each_document():
    document_ids = random_packed_features()["document_ids"]
    found = records.position_ids(tf.constant(document_ids, tf.int32)).numpy()
    for row, positions in zip(document_ids, found, strict=True):
        expected = []
        for i, document in enumerate(row):
            is_same = i > 0 and row[i - 1] == document
            expected.append(expected[-1] + 1 if is_same else 0)
        assert positions.tolist() == expected
    assert found.dtype == np.int32


def test_positions_have_a_static_shape_in_an_input_pipeline():
    serialized = records.serialize(random_packed_features())
    dataset = tf.data.Dataset.from_tensor_slices(serialized)
    dataset = dataset.batch(4, drop_remainder=True).map(
        lambda batch: records.parse(batch, 64, 20, is_packed=True)
    )
    for name in ("document_ids", "position_ids"):
        assert dataset.element_spec[name].shape == [4, 64]
        assert dataset.element_spec[name].dtype == tf.int32


def test_no_rows_serialize_to_no_records():
    assert records.serialize(random_features(num_rows=0)) == []


@pytest.fixture
def a_set(tmp_path):
    """A folder with a complete dataset, and its manifest."""
    vocab = vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, "a", "b"), is_lower_case=True
    )
    vocab.write(f"{tmp_path}/{vocabulary.FILE_NAME}")
    shard = records.write_shard(
        f"{tmp_path}/{records.shard_name('train', 0, 1)}",
        [random_features(num_rows=10)],
    )
    split = manifests.Split(
        num_documents=1,
        num_examples=10,
        num_tokens=100,
        num_predictions=9,
        num_random_next=0,
        padding_fraction=0.0,
        max_id=6,
        shards=(shard,),
    )
    manifest = manifests.Manifest(
        seq_length=128,
        max_predictions_per_seq=20,
        pairing="none",
        masking="token",
        vocab_size=vocab.size,
        vocab_sha256=vocab.sha256,
        is_lower_case=True,
        splits={"train": split},
        options={"seed": 0},
        sources=({"path": "x"},),
        documents={"read": 1},
        rows={},
    )
    manifests.write(str(tmp_path), manifest)
    return str(tmp_path), manifest


def test_a_manifest_is_read_as_it_was_written(a_set):
    data_dir, manifest = a_set
    assert manifests.read(data_dir) == manifest


def test_a_complete_dataset_passes_the_check(a_set):
    manifests.check_dataset(*a_set)
    assert manifests.find_corrupt_shard(*a_set) is None


def test_a_dataset_without_a_manifest_is_not_complete(tmp_path):
    with pytest.raises(errors.UserError, match="holds no finished dataset"):
        manifests.read(str(tmp_path))


def test_another_format_version_is_refused(a_set):
    data_dir, manifest = a_set
    manifests.write(data_dir, dataclasses.replace(manifest, format_version=99))
    with pytest.raises(errors.UserError, match="format_version 99"):
        manifests.read(data_dir)


@pytest.mark.parametrize(
    "content",
    ["[]", '{"format_version": 1}', '{"format_version": 1, "splits": [1]}'],
)
def test_a_file_that_is_not_a_manifest_is_refused(tmp_path, content):
    (tmp_path / manifests.MANIFEST_NAME).write_text(content)
    with pytest.raises(errors.UserError, match="json: not as the builder wr"):
        manifests.read(str(tmp_path))


def test_a_truncated_shard_is_named(a_set):
    data_dir, manifest = a_set
    path = f"{data_dir}/{manifest.splits['train'].shards[0].file}"
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(errors.UserError, match=f"{path}: 100 bytes"):
        manifests.check_dataset(data_dir, manifest)


def test_a_changed_byte_is_found(a_set):
    data_dir, manifest = a_set
    path = f"{data_dir}/{manifest.splits['train'].shards[0].file}"
    with open(path, "r+b") as file:
        file.seek(200)
        byte = file.read(1)
        file.seek(200)
        file.write(bytes([byte[0] ^ 1]))
    assert manifests.find_corrupt_shard(data_dir, manifest) == path


def test_another_vocabulary_is_refused(a_set):
    data_dir, manifest = a_set
    vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, "b", "a"), is_lower_case=True
    ).write(f"{data_dir}/{vocabulary.FILE_NAME}")
    with pytest.raises(errors.UserError, match="mean another token"):
        manifests.check_dataset(data_dir, manifest)


def test_an_id_outside_the_vocabulary_is_refused(a_set):
    data_dir, manifest = a_set
    split = dataclasses.replace(manifest.splits["train"], max_id=7)
    with pytest.raises(errors.UserError, match="the id 7"):
        manifests.check_dataset(
            data_dir, dataclasses.replace(manifest, splits={"train": split})
        )


def test_a_shard_without_rows_is_a_file_too(tmp_path):
    path = str(tmp_path / "eval-00000-of-00001.tfrecord")
    assert records.write_shard(path, []).num_examples == 0
    assert list(records.read_examples([path])) == []
