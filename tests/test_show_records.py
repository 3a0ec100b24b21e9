"""Examples as text, from any builder."""

import numpy as np
import pytest

from bert_pretrain import errors
from bert_pretrain.data import vocabulary
from tfrecord_builders import show_records
from tfrecord_builders.reporting import record_view

VOCAB = vocabulary.Vocabulary((*vocabulary.SPECIAL_TOKENS, "a", "b"), True)
PAIR = {
    "input_ids": np.array([2, 4, 3, 6, 3, 0]),
    "attention_mask": np.array([1, 1, 1, 1, 1, 0]),
    "token_type_ids": np.array([0, 0, 0, 1, 1, 0]),
    "masked_lm_positions": np.array([1, 0]),
    "masked_lm_ids": np.array([5, 0]),
    "masked_lm_weights": np.array([1.0, 0.0]),
    "next_sentence_labels": np.array([0]),
}


@pytest.mark.parametrize(
    "pairing, kind",
    [("nsp", ", actual next"), ("sop", ", in order"), ("none", "")],
)
def test_a_pair_is_described_by_the_dataset_s_pairing(pairing, kind):
    assert record_view.describe(PAIR, VOCAB, pairing) == (
        f"5 tokens of 6, 1 predictions{kind}\n[CLS] ‹[MASK]→a›\n[SEP] b [SEP]\n"
    )


@pytest.mark.parametrize("option", ["num_examples", "skip"])
def test_fewer_than_no_examples_are_refused(option):
    with pytest.raises(errors.UserError, match=f"{option}=-1 must not be"):
        show_records.ShowConfig(data_dir="x", **{option: -1})
