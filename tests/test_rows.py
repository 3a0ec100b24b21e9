"""Rows lose no text, pairs are those of the papers, packed rows are full."""

import dataclasses
import gc
import itertools
import weakref

import numpy as np
import pytest

from bert_pretrain import errors
from bert_pretrain.data import vocabulary
from tfrecord_builders.rows import rows

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


def news_like_tokens(num_documents=1500, seed=0):
    """Documents of sentences of 25 tokens, of 465 in the mean."""
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
    config = rows.RowsConfig(
        seq_length=seq_length, pairing=pairing, packing=packing
    )
    built, counts = rows.build(tokens, config, seed)
    parts = [
        built.ids[start : start + length].tolist()
        for start, length in zip(
            built.part_starts, built.part_lengths, strict=True
        )
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
    for i, is_random in enumerate(built.next_sentence_labels):
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
    for i, is_random in enumerate(built.next_sentence_labels):
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
    assert abs(built.next_sentence_labels.mean() - 0.5) < 0.03


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
            parts[1::2], built.next_sentence_labels, strict=True
        )
        if is_random and part[-1] - 5 + 1 not in ends
    ]
    assert cut and counts["num_tokens_cut"] >= len(cut)


def test_a_lone_document_has_no_random_next():
    ends = np.array([10, 20, 30])
    tokens = rows.Tokens(np.arange(30) + 5, ends, ends[-1:])
    built, _, _ = build(tokens, 32, "nsp")
    assert not built.next_sentence_labels.any()


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
def test_ordered_pairs_hold_every_token_once_whole_and_next_to_one_another(
    seq_length, longest_sentence
):
    tokens = random_tokens(longest_sentence=longest_sentence)
    built, parts, counts = build(tokens, seq_length, "sop")
    in_order = []
    for i, is_swapped in enumerate(built.next_sentence_labels):
        pair = parts[2 * i : 2 * i + 2]
        if is_swapped:
            pair.reverse()
        assert pair[1][0] == pair[0][-1] + 1
        in_order += pair[0] + pair[1]
    lone = set(tokens.ids.tolist()) - set(in_order)
    assert in_order == sorted(in_order)
    # What is left of a document is lost only if it is a single token.
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
    built, parts, _ = build(tokens, 128, "sop")
    assert abs(built.next_sentence_labels.mean() - 0.5) < 0.03
    ends = set((tokens.ids[sentence_ends - 1]).tolist())
    assert all(part[-1] in ends for part in parts)
    # No document's last sentence is left alone, to be divided.
    documents = np.searchsorted(
        tokens.document_ends, [part[0] - 5 for part in parts], side="right"
    )
    np.testing.assert_array_equal(documents[::2], documents[1::2])


@pytest.mark.parametrize("seq_length", [8, 64, 128, 512])
@pytest.mark.parametrize("longest_sentence", [5, 60, 300])
def test_packed_rows_hold_every_token_once_and_documents_in_order(
    seq_length, longest_sentence
):
    tokens = random_tokens(longest_sentence=longest_sentence)
    built, parts, _ = build(tokens, seq_length, "none", packing=True)
    in_order = sorted(parts)
    assert list(itertools.chain(*in_order)) == tokens.ids.tolist()
    documents = np.searchsorted(
        tokens.document_ends, [part[0] - 5 for part in parts], side="right"
    )
    assert (
        documents
        == np.searchsorted(
            tokens.document_ends, [part[-1] - 5 for part in parts], side="right"
        )
    ).all()
    row_of = np.repeat(np.arange(len(built)), built.parts_per_row)
    # In a row the text's order is kept, and what follows is not divided.
    same_row = np.diff(row_of) == 0
    assert (np.diff([part[0] for part in parts])[same_row] > 0).all()
    follows = np.array(
        [one[-1] + 1 == other[0] for one, other in itertools.pairwise(parts)]
    )
    assert not (follows & same_row & (np.diff(documents) == 0)).any()
    used = np.bincount(row_of, built.part_lengths + 2)
    assert used.max() <= seq_length


def test_packed_parts_end_at_sentences():
    tokens = news_like_tokens(300)
    _, parts, _ = build(tokens, 512, "none", packing=True)
    sentence_ends = set((tokens.sentence_ends + 4).tolist())
    assert all(part[-1] in sentence_ends for part in parts)


def test_packing_leaves_hardly_any_padding_and_counts_what_it_saved():
    tokens = news_like_tokens()
    alone, alone_parts, _ = build(tokens, 512, "none")
    built, parts, counts = build(tokens, 512, "none", packing=True)
    assert counts == {
        "num_rows_unpacked": len(alone),
        "num_tokens_unpacked": len(tokens.ids) + 2 * len(alone_parts),
    }
    before = 1 - counts["num_tokens_unpacked"] / (512 * len(alone))
    after = 1 - (len(tokens.ids) + 2 * len(parts)) / (512 * len(built))
    assert before > 0.25  # measured on news: 0.34
    assert after < 0.03
    # Documents are cut to fill rows, but seldom: most stay as they were.
    unchanged = {tuple(part) for part in alone_parts} & set(map(tuple, parts))
    assert len(unchanged) > 0.5 * len(alone_parts)


def test_packing_short_documents_cuts_none_but_the_last():
    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.integers(10, 80, 3000))
    tokens = rows.Tokens(np.arange(ends[-1]) + 5, ends, ends)
    built, parts, _ = build(tokens, 512, "none", packing=True)
    assert len(parts) == 3000
    assert 1 - (len(tokens.ids) + 2 * 3000) / (512 * len(built)) < 0.01


def test_packing_goes_with_no_pairs():
    with pytest.raises(errors.UserError, match="packing .* not 'nsp'"):
        rows.RowsConfig(packing=True, pairing="nsp")


def test_features_of_packed_rows_tell_documents_apart():
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


def test_documents_of_packed_rows_change_exactly_at_cls():
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
def test_what_a_segmenter_told_goes_with_its_tokens(pairing):
    tokens = random_tokens(50)
    is_continuation = tokens.ids % 3 == 0  # so that each can be traced
    tokens = dataclasses.replace(tokens, is_continuation=is_continuation)
    built, _, _ = build(tokens, 64, pairing)
    order = np.random.default_rng(0).permutation(len(built))
    halves = [built.take(order[:20]), built.take(order[20:])]
    nothing = built.take(order[:0])
    stored = rows.concatenate(
        [
            rows.Rows.from_bytes(part.to_bytes())
            for part in [nothing, *halves, nothing]
        ]
    )
    features = stored.features(64, VOCAB)
    is_text = features["input_ids"] >= 5
    np.testing.assert_array_equal(
        features["is_continuation"], (features["input_ids"] % 3 == 0) & is_text
    )
    assert features["is_continuation"].any()


def test_without_a_segmenter_rows_are_stored_as_small_as_without_the_option():
    tokens = random_tokens(50)
    built, _, _ = build(tokens, 64, "none")
    assert "is_continuation" not in built.features(64, VOCAB)
    told = dataclasses.replace(
        built, is_continuation=np.zeros(len(built.ids), bool)
    )
    num_bits = len(told.to_bytes()) - len(built.to_bytes())
    assert num_bits == -(-built.part_lengths.sum() // 8)


@pytest.mark.parametrize("pairing", ["none", "nsp", "sop"])
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
def test_nothing_is_left_to_the_garbage_collector(pairing):
    # It comes so rarely that a worker would hold many units' arrays until then.
    gc.disable()
    try:
        tokens = random_tokens(50)
        built, _, _ = build(tokens, 64, pairing)
        starts = built.part_starts
        held = [tokens.ids, starts if starts.base is None else starts.base]
        references = [weakref.ref(array) for array in held]
        del tokens, built, starts, held
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
