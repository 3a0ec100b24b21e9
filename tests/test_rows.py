"""Rows lose no text, pairs follow the papers, packed rows are nearly full."""

import dataclasses
import gc
import itertools
import weakref

import numpy as np
import pytest

from bert_pretrain import errors
from bert_pretrain.data import vocabulary
from tfrecord_builders.rows import row_builder, rows, rows_config

VOCAB = vocabulary.Vocabulary(
    (*vocabulary.SPECIAL_TOKENS, *(f"w{i}" for i in range(60000))),
    is_lower_case=True,
)


def random_tokens(num_documents=200, seed=0, longest_sentence=60):
    """Documents of tokens with different ids, so that each can be traced."""
    rng = np.random.default_rng(seed)
    lengths = [
        rng.integers(1, longest_sentence, rng.integers(1, 20))
        for _ in range(num_documents)
    ]
    sentence_ends = np.cumsum(np.concatenate(lengths))
    document_ends = np.cumsum([length.sum() for length in lengths])
    ids = np.arange(sentence_ends[-1]) + 5
    return rows.Tokens(ids, sentence_ends, document_ends)


def news_like_tokens(num_documents=1500, seed=0):
    """Documents of 465 tokens on average, in sentences of 25 tokens."""
    rng = np.random.default_rng(seed)
    num_sentences = np.clip(rng.lognormal(2.7, 0.7, num_documents), 1, 200)
    lengths = [
        np.clip(rng.gamma(4, 6, int(n)), 2, 90).astype(int)
        for n in num_sentences
    ]
    sentence_ends = np.cumsum(np.concatenate(lengths))
    document_ends = np.cumsum([length.sum() for length in lengths])
    ids = np.arange(sentence_ends[-1]) + 5
    return rows.Tokens(ids, sentence_ends, document_ends)


def build(tokens, seq_length, pairing, seed=0, packing=False):
    config = rows_config.RowsConfig(
        seq_length=seq_length, pairing=pairing, packing=packing
    )
    built, counts = row_builder.build(tokens, config, seed)
    segments = [
        built.ids[start : start + length].tolist()
        for start, length in zip(
            built.segment_starts, built.segment_lengths, strict=True
        )
    ]
    return built, segments, counts


@pytest.mark.parametrize("seq_length", [8, 32, 128])
@pytest.mark.parametrize("longest_sentence", [5, 60, 300])
def test_full_sentences_hold_every_token_once_and_in_order(
    seq_length, longest_sentence
):
    tokens = random_tokens(longest_sentence=longest_sentence)
    _, segments, _ = build(tokens, seq_length, "none")
    assert list(itertools.chain(*segments)) == tokens.ids.tolist()


def test_full_sentences_end_at_sentences_and_stay_in_one_document():
    tokens = random_tokens(longest_sentence=30)
    sentence_ends = set(tokens.sentence_ends.tolist())
    starts = {0, *tokens.document_ends.tolist()}
    _, segments, _ = build(tokens, 32, "none")
    position = 0
    for segment in segments:
        inside = set(range(position + 1, position + len(segment)))
        assert not inside & starts, "a row goes over the end of a document"
        position += len(segment)
        assert position in sentence_ends


def test_a_full_row_could_not_take_the_next_sentence():
    tokens = random_tokens(longest_sentence=30)
    ends = tokens.sentence_ends.tolist()
    documents = set(tokens.document_ends.tolist())
    _, segments, _ = build(tokens, 64, "none")
    position = 0
    for segment in segments:
        position += len(segment)
        if position not in documents:
            following = ends[ends.index(position) + 1] - position
            assert len(segment) + following > 62


@pytest.mark.parametrize("seq_length", [16, 128])
def test_pairs_hold_every_token_in_order(seq_length):
    tokens = random_tokens()
    built, segments, counts = build(tokens, seq_length, "nsp")
    in_order = []
    for i, is_random in enumerate(built.next_sentence_labels):
        in_order += segments[2 * i]
        if not is_random:
            in_order += segments[2 * i + 1]
    assert in_order == tokens.ids.tolist()
    assert counts["num_documents_unpaired"] == 0


def test_actual_segments_follow_and_random_ones_are_from_elsewhere():
    tokens = random_tokens()
    built, segments, _ = build(tokens, 64, "nsp")
    document_of = np.searchsorted(
        tokens.document_ends, np.arange(len(tokens.ids)), side="right"
    )
    for i, is_random in enumerate(built.next_sentence_labels):
        first, second = np.array(segments[2 * i]), np.array(segments[2 * i + 1])
        same_document = document_of[first[-1] - 5] == document_of[second[0] - 5]
        assert same_document == (not is_random)
        if not is_random:
            assert second[0] == first[-1] + 1


def test_half_of_the_pairs_are_random_even_if_many_must_be():
    # Documents of one to three sentences; the last one has no next sentence.
    rng = np.random.default_rng(1)
    lengths = [rng.integers(5, 20, rng.integers(1, 4)) for _ in range(4000)]
    tokens = rows.Tokens(
        np.arange(sum(length.sum() for length in lengths)) + 5,
        np.cumsum(np.concatenate(lengths)),
        np.cumsum([length.sum() for length in lengths]),
    )
    built, _, _ = build(tokens, 128, "nsp")
    assert abs(built.next_sentence_labels.mean() - 0.5) < 0.03


def test_one_row_in_ten_is_short():
    # Short sentences in long documents fill all other rows nearly.
    lengths = np.full(40_000, 4)
    ends = np.cumsum(lengths)
    tokens = rows.Tokens(np.arange(ends[-1]), ends, ends[1999::2000])
    built, _, _ = build(tokens, 128, "nsp")
    row_lengths = built.segment_lengths.reshape(-1, 2).sum(1)
    # Short rows have a capacity from 2 to 125, below 100 four times in five.
    assert abs((row_lengths < 100).mean() - 0.08) < 0.02


def test_tokens_cut_from_random_segments_are_counted():
    tokens = random_tokens(longest_sentence=30)
    built, segments, counts = build(tokens, 64, "nsp")
    ends = set(tokens.sentence_ends.tolist())
    cut = [
        segment[-1] - 5 + 1
        for segment, is_random in zip(
            segments[1::2], built.next_sentence_labels, strict=True
        )
        if is_random and segment[-1] - 5 + 1 not in ends
    ]
    assert cut and counts["num_tokens_cut"] >= len(cut)


def test_a_single_document_has_no_random_pairs():
    ends = np.array([10, 20, 30])
    tokens = rows.Tokens(np.arange(30) + 5, ends, ends[-1:])
    built, _, _ = build(tokens, 32, "nsp")
    assert not built.next_sentence_labels.any()


def test_a_single_sentence_without_a_pair_is_counted():
    ends = np.array([10])
    built, _, counts = build(
        rows.Tokens(np.arange(10) + 5, ends, ends), 32, "nsp"
    )
    assert len(built) == 0
    assert counts["num_documents_unpaired"] == 1


def test_a_seed_fixes_the_pairs():
    tokens = random_tokens()
    one, same, other = (
        build(tokens, 64, "nsp", seed)[0].to_bytes() for seed in (1, 1, 2)
    )
    assert one == same != other


def test_features_are_those_of_a_model():
    built = rows.Rows(
        np.array([10, 11, 12, 13, 14]),
        np.array([0, 2, 3]),
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


@pytest.mark.parametrize("seq_length", [16, 128])
@pytest.mark.parametrize("longest_sentence", [5, 60, 300])
def test_ordered_pairs_hold_every_token_once_and_in_order(
    seq_length, longest_sentence
):
    tokens = random_tokens(longest_sentence=longest_sentence)
    built, segments, counts = build(tokens, seq_length, "sop")
    in_order = []
    for i, is_swapped in enumerate(built.next_sentence_labels):
        pair = segments[2 * i : 2 * i + 2]
        if is_swapped:
            pair.reverse()
        assert pair[1][0] == pair[0][-1] + 1
        in_order += pair[0] + pair[1]
    lone = set(tokens.ids.tolist()) - set(in_order)
    assert in_order == sorted(in_order)
    # The rest of a document is lost only if it is a single token.
    assert counts["num_documents_unpaired"] == len(lone) < 10
    assert not counts["num_tokens_cut"]


def test_half_of_the_ordered_pairs_are_swapped_and_divided_at_sentences():
    # Documents of at least two sentences that fit into a row.
    rng = np.random.default_rng(1)
    lengths = [rng.integers(5, 20, rng.integers(2, 9)) for _ in range(3000)]
    sentence_ends = np.cumsum(np.concatenate(lengths))
    tokens = rows.Tokens(
        np.arange(sentence_ends[-1]) + 5,
        sentence_ends,
        np.cumsum([length.sum() for length in lengths]),
    )
    built, segments, _ = build(tokens, 128, "sop")
    assert abs(built.next_sentence_labels.mean() - 0.5) < 0.03
    ends = set((tokens.ids[sentence_ends - 1]).tolist())
    assert all(segment[-1] in ends for segment in segments)
    # The last sentence of a document is never alone, so none is divided.
    documents = np.searchsorted(
        tokens.document_ends,
        [segment[0] - 5 for segment in segments],
        side="right",
    )
    np.testing.assert_array_equal(documents[::2], documents[1::2])


@pytest.mark.parametrize("seq_length", [8, 64, 128, 512])
@pytest.mark.parametrize("longest_sentence", [5, 60, 300])
def test_packed_rows_hold_every_token_once_and_documents_in_order(
    seq_length, longest_sentence
):
    tokens = random_tokens(longest_sentence=longest_sentence)
    built, segments, _ = build(tokens, seq_length, "none", packing=True)
    in_order = sorted(segments)
    assert list(itertools.chain(*in_order)) == tokens.ids.tolist()
    documents = np.searchsorted(
        tokens.document_ends,
        [segment[0] - 5 for segment in segments],
        side="right",
    )
    assert (
        documents
        == np.searchsorted(
            tokens.document_ends,
            [segment[-1] - 5 for segment in segments],
            side="right",
        )
    ).all()
    row_of = np.repeat(np.arange(len(built)), built.segments_per_row)
    # A row keeps the order of the text, and consecutive segments are joined.
    same_row = np.diff(row_of) == 0
    assert (np.diff([segment[0] for segment in segments])[same_row] > 0).all()
    follows = np.array(
        [one[-1] + 1 == other[0] for one, other in itertools.pairwise(segments)]
    )
    assert not (follows & same_row & (np.diff(documents) == 0)).any()
    used = np.bincount(row_of, built.segment_lengths + 2)
    assert used.max() <= seq_length


def test_packed_segments_end_at_sentences():
    tokens = news_like_tokens(300)
    _, segments, _ = build(tokens, 512, "none", packing=True)
    sentence_ends = set((tokens.sentence_ends + 4).tolist())
    assert all(segment[-1] in sentence_ends for segment in segments)


def test_packing_leaves_little_padding_and_counts_unpacked_rows():
    tokens = news_like_tokens()
    alone, alone_segments, _ = build(tokens, 512, "none")
    built, segments, counts = build(tokens, 512, "none", packing=True)
    assert counts == {
        "num_rows_unpacked": len(alone),
        "num_tokens_unpacked": len(tokens.ids) + 2 * len(alone_segments),
    }
    before = 1 - counts["num_tokens_unpacked"] / (512 * len(alone))
    after = 1 - (len(tokens.ids) + 2 * len(segments)) / (512 * len(built))
    assert before > 0.25  # measured on news: 0.34
    assert after < 0.03
    # Most segments are not cut.
    unchanged = {tuple(segment) for segment in alone_segments} & set(
        map(tuple, segments)
    )
    assert len(unchanged) > 0.5 * len(alone_segments)


def test_packing_cuts_no_short_documents():
    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.integers(10, 80, 3000))
    tokens = rows.Tokens(np.arange(ends[-1]) + 5, ends, ends)
    built, segments, _ = build(tokens, 512, "none", packing=True)
    assert len(segments) == 3000
    assert 1 - (len(tokens.ids) + 2 * 3000) / (512 * len(built)) < 0.01


def test_packing_with_pairs_is_refused():
    with pytest.raises(errors.UserError, match="packing .* not 'nsp'"):
        rows_config.RowsConfig(packing=True, pairing="nsp")


def test_features_of_packed_rows_have_document_ids():
    built = rows.Rows(
        np.array([10, 11, 12, 13, 14]),
        np.array([0, 2, 3]),
        np.array([2, 1, 2]),
        np.array([2, 1]),
        np.array([False, False]),
    )
    features = built.features(8, VOCAB, is_packed=True)
    pad, _, cls, sep, _ = range(5)
    assert features["input_ids"].tolist() == [
        [cls, 10, 11, sep, cls, 12, sep, pad],
        [cls, 13, 14, sep, pad, pad, pad, pad],
    ]
    assert features["document_ids"].tolist() == [
        [1, 1, 1, 1, 2, 2, 2, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(
        features["attention_mask"], features["document_ids"] > 0
    )
    assert not features["token_type_ids"].any()
    assert not features["next_sentence_labels"].any()


def test_document_ids_change_exactly_at_cls():
    built, _, _ = build(random_tokens(), 128, "none", packing=True)
    features = built.features(128, VOCAB, is_packed=True)
    is_cls = features["input_ids"] == VOCAB.id(vocabulary.CLS)
    document_ids = features["document_ids"]
    before = np.pad(document_ids[:, :-1], ((0, 0), (1, 0)))
    np.testing.assert_array_equal(document_ids - before == 1, is_cls)
    is_padding = features["attention_mask"] == 0
    np.testing.assert_array_equal(
        (document_ids != before) & ~is_padding, is_cls
    )
    assert not document_ids[is_padding].any()
    assert document_ids.max() > 2


@pytest.mark.parametrize("pairing", ["none", "nsp", "sop"])
def test_is_continuation_stays_with_its_tokens(pairing):
    tokens = random_tokens(50)
    is_continuation = tokens.ids % 3 == 0  # can be traced
    tokens = dataclasses.replace(tokens, is_continuation=is_continuation)
    built, _, _ = build(tokens, 64, pairing)
    order = np.random.default_rng(0).permutation(len(built))
    halves = [built.take(order[:20]), built.take(order[20:])]
    nothing = built.take(order[:0])
    stored = rows.concatenate(
        [
            rows.Rows.from_bytes(piece.to_bytes())
            for piece in [nothing, *halves, nothing]
        ]
    )
    features = stored.features(64, VOCAB)
    is_text = features["input_ids"] >= 5
    np.testing.assert_array_equal(
        features["is_continuation"], (features["input_ids"] % 3 == 0) & is_text
    )
    assert features["is_continuation"].any()


def test_rows_without_a_segmenter_are_stored_without_its_bits():
    tokens = random_tokens(50)
    built, _, _ = build(tokens, 64, "none")
    assert "is_continuation" not in built.features(64, VOCAB)
    told = dataclasses.replace(
        built, is_continuation=np.zeros(len(built.ids), bool)
    )
    num_bits = len(told.to_bytes()) - len(built.to_bytes())
    assert num_bits == -(-built.segment_lengths.sum() // 8)


@pytest.mark.parametrize("pairing", ["none", "nsp", "sop"])
def test_rows_can_be_stored_and_reordered(pairing):
    tokens = random_tokens()
    built, _, _ = build(tokens, 64, pairing)
    order = np.random.default_rng(0).permutation(len(built))
    stored = rows.Rows.from_bytes(built.take(order).to_bytes())
    before = built.features(64, VOCAB)
    after = stored.features(64, VOCAB)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values[order])
    assert before["attention_mask"].sum(1).max() == 64


def test_no_documents_give_no_rows():
    empty = rows.concatenate_tokens([])
    for pairing, packing in (
        ("none", False),
        ("none", True),
        ("nsp", False),
        ("sop", False),
    ):
        built, _, _ = build(empty, 64, pairing, packing=packing)
        assert len(built) == 0
        assert len(rows.Rows.from_bytes(built.to_bytes())) == 0


@pytest.mark.parametrize("pairing", ["none", "nsp", "sop"])
def test_arrays_are_freed_without_the_garbage_collector(pairing):
    # The collector runs so rarely that a worker would hold the arrays of many
    # work units.
    gc.disable()
    try:
        tokens = random_tokens(50)
        built, _, _ = build(tokens, 64, pairing)
        starts = built.segment_starts
        held = [tokens.ids, starts if starts.base is None else starts.base]
        references = [weakref.ref(array) for array in held]
        del tokens, built, starts, held
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
