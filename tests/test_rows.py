"""Rows lose no text and pairs are those of the BERT paper."""

import itertools

import numpy as np
import pytest

from bert_pretrain import vocabulary
from tfrecord_builders import rows

VOCAB = vocabulary.Vocabulary(
    (*vocabulary.SPECIAL_TOKENS, *(f"w{i}" for i in range(60000))),
    is_lower_case=True,
)


def random_tokens(num_documents=200, seed=0, longest_sentence=60):
    """Documents whose every token is another, so that each can be traced."""
    rng = np.random.default_rng(seed)
    lengths = [
        rng.integers(1, longest_sentence, rng.integers(1, 20))
        for _ in range(num_documents)
    ]
    sentence_ends = np.cumsum(np.concatenate(lengths))
    document_ends = np.cumsum([length.sum() for length in lengths])
    ids = np.arange(sentence_ends[-1]) + 5
    return rows.Tokens(ids, sentence_ends, document_ends)


def build(tokens, seq_length, pairing, seed=0):
    config = rows.RowsConfig(seq_length=seq_length, pairing=pairing)
    built, counts = rows.build(tokens, config, seed)
    starts = np.cumsum(built.part_lengths) - built.part_lengths
    parts = [
        built.ids[start : start + length].tolist()
        for start, length in zip(starts, built.part_lengths, strict=True)
    ]
    return built, parts, counts


@pytest.mark.parametrize("seq_length", [8, 32, 128])
@pytest.mark.parametrize("longest_sentence", [5, 60, 300])
def test_full_sentences_hold_every_token_once_and_in_order(
    seq_length, longest_sentence
):
    tokens = random_tokens(longest_sentence=longest_sentence)
    _, parts, _ = build(tokens, seq_length, "none")
    assert list(itertools.chain(*parts)) == tokens.ids.tolist()


def test_full_sentences_end_at_sentences_and_stay_in_a_document():
    tokens = random_tokens(longest_sentence=30)
    sentence_ends = set(tokens.sentence_ends.tolist())
    starts = {0, *tokens.document_ends.tolist()}
    _, parts, _ = build(tokens, 32, "none")
    position = 0
    for part in parts:
        inside = set(range(position + 1, position + len(part)))
        assert not inside & starts, "a row goes over a document's end"
        position += len(part)
        assert position in sentence_ends


def test_a_full_row_could_not_take_the_next_sentence():
    tokens = random_tokens(longest_sentence=30)
    ends = tokens.sentence_ends.tolist()
    documents = set(tokens.document_ends.tolist())
    _, parts, _ = build(tokens, 64, "none")
    position = 0
    for part in parts:
        position += len(part)
        if position not in documents:
            following = ends[ends.index(position) + 1] - position
            assert len(part) + following > 62


@pytest.mark.parametrize("seq_length", [16, 128])
def test_pairs_hold_every_token_in_order(seq_length):
    tokens = random_tokens()
    built, parts, counts = build(tokens, seq_length, "nsp")
    in_order = []
    for i, is_random in enumerate(built.is_random_next):
        in_order += parts[2 * i]
        if not is_random:
            in_order += parts[2 * i + 1]
    assert in_order == tokens.ids.tolist()
    assert counts["num_documents_unpaired"] == 0


def test_an_actual_next_part_follows_and_a_random_one_is_from_elsewhere():
    tokens = random_tokens()
    built, parts, _ = build(tokens, 64, "nsp")
    document_of = np.searchsorted(
        tokens.document_ends, np.arange(len(tokens.ids)), side="right"
    )
    for i, is_random in enumerate(built.is_random_next):
        first, second = np.array(parts[2 * i]), np.array(parts[2 * i + 1])
        same_document = document_of[first[-1] - 5] == document_of[second[0] - 5]
        assert same_document == (not is_random)
        if not is_random:
            assert second[0] == first[-1] + 1


def test_half_of_the_pairs_are_random_even_where_many_must_be():
    # Documents of one to three sentences: their last ones have no next.
    rng = np.random.default_rng(1)
    lengths = [rng.integers(5, 20, rng.integers(1, 4)) for _ in range(4000)]
    tokens = rows.Tokens(
        np.arange(sum(length.sum() for length in lengths)) + 5,
        np.cumsum(np.concatenate(lengths)),
        np.cumsum([length.sum() for length in lengths]),
    )
    built, _, _ = build(tokens, 128, "nsp")
    assert abs(built.is_random_next.mean() - 0.5) < 0.03


def test_one_row_in_ten_is_short():
    # Long documents of short sentences, so that other rows are nearly full.
    lengths = np.full(40_000, 4)
    ends = np.cumsum(lengths)
    tokens = rows.Tokens(np.arange(ends[-1]), ends, ends[1999::2000])
    built, _, _ = build(tokens, 128, "nsp")
    row_lengths = built.part_lengths.reshape(-1, 2).sum(1)
    # A target drawn evenly from 2 … 125 is below 100 four times in five.
    assert abs((row_lengths < 100).mean() - 0.08) < 0.02


def test_what_is_cut_from_random_parts_is_counted():
    tokens = random_tokens(longest_sentence=30)
    built, parts, counts = build(tokens, 64, "nsp")
    ends = set(tokens.sentence_ends.tolist())
    cut = [
        part[-1] - 5 + 1
        for part, is_random in zip(
            parts[1::2], built.is_random_next, strict=True
        )
        if is_random and part[-1] - 5 + 1 not in ends
    ]
    assert cut and counts["num_tokens_cut"] >= len(cut)


def test_a_lone_document_has_no_random_next():
    ends = np.array([10, 20, 30])
    tokens = rows.Tokens(np.arange(30) + 5, ends, ends[-1:])
    built, _, _ = build(tokens, 32, "nsp")
    assert not built.is_random_next.any()


def test_a_lone_sentence_that_cannot_be_paired_is_counted():
    ends = np.array([10])
    built, _, counts = build(
        rows.Tokens(np.arange(10) + 5, ends, ends), 32, "nsp"
    )
    assert len(built) == 0
    assert counts["num_documents_unpaired"] == 1


def test_one_seed_gives_one_set_of_pairs():
    tokens = random_tokens()
    one, same, other = (
        build(tokens, 64, "nsp", seed)[0].to_bytes() for seed in (1, 1, 2)
    )
    assert one == same != other


def test_features_are_what_a_model_takes():
    built = rows.Rows(
        np.array([10, 11, 12, 13, 14]),
        np.array([2, 1, 2]),
        np.array([2, 1]),
        np.array([True, False]),
    )
    features = built.features(8, VOCAB)
    pad, _, cls, sep, _ = range(5)
    assert features["input_ids"].tolist() == [
        [cls, 10, 11, sep, 12, sep, pad, pad],
        [cls, 13, 14, sep, pad, pad, pad, pad],
    ]
    assert features["attention_mask"].tolist() == [
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
    ]
    assert features["token_type_ids"].tolist() == [
        [0, 0, 0, 0, 1, 1, 0, 0],
        [0] * 8,
    ]
    assert features["next_sentence_labels"].tolist() == [1, 0]


@pytest.mark.parametrize("pairing", ["none", "nsp"])
def test_rows_fit_and_survive_being_stored_and_reordered(pairing):
    tokens = random_tokens()
    built, _, _ = build(tokens, 64, pairing)
    order = np.random.default_rng(0).permutation(len(built))
    stored = rows.Rows.from_bytes(built.take(order).to_bytes())
    before = built.features(64, VOCAB)
    after = stored.features(64, VOCAB)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values[order])
    assert before["attention_mask"].sum(1).max() == 64


def test_no_documents_make_no_rows():
    empty = rows.concatenate_tokens([])
    for pairing in ("none", "nsp"):
        built, _, _ = build(empty, 64, pairing)
        assert len(built) == 0
        assert len(rows.Rows.from_bytes(built.to_bytes())) == 0
