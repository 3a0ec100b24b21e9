"""Masks have the rates of the papers and never hide special tokens."""

import numpy as np
import pytest

from bert_pretrain import errors
from bert_pretrain.data import vocabulary
from tfrecord_builders.rows import masked_units, masking, rows_config

VOCAB = vocabulary.Vocabulary(
    vocabulary.SPECIAL_TOKENS
    + ("[unused0]",)
    + tuple(f"w{i}" for i in range(60))
    + tuple(f"##p{i}" for i in range(30)),
    True,
)
CLS, SEP, UNK, MASK = map(VOCAB.id, ("[CLS]", "[SEP]", "[UNK]", "[MASK]"))
SEQ_LENGTH = 40


def _rows(num_rows, seed=0, seq_length=SEQ_LENGTH):
    """[CLS] words [SEP] padding, with a few [UNK]."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(6, VOCAB.size, (num_rows, seq_length))
    ids[rng.random(ids.shape) < 0.03] = UNK
    lengths = rng.integers(3, seq_length + 1, num_rows)
    columns = np.arange(seq_length)
    ids[:, 0] = CLS
    ids[columns == lengths[:, None] - 1] = SEP
    is_real = columns < lengths[:, None]
    return (ids * is_real).astype(np.int32), is_real.astype(np.int32)


def _mask(ids, attention_mask, seed=0, **values):
    config = rows_config.MaskingConfig(**values)
    return masking.mask(
        ids, attention_mask, VOCAB, config, np.random.default_rng(seed)
    )


def _candidates(ids, attention_mask):
    return (attention_mask == 1) & ~VOCAB.is_special[ids]


def _chosen(features, shape):
    """bool [N, S] from the positions."""
    is_chosen = np.zeros(shape, bool)
    rows, slots = np.nonzero(features["masked_lm_weights"])
    is_chosen[rows, features["masked_lm_positions"][rows, slots]] = True
    return is_chosen


@pytest.mark.parametrize("kind", ["token", "whole_word", "span", "ngram"])
def test_features_are_consistent(kind):
    ids, attention_mask = _rows(700)
    before = ids.copy()
    features = _mask(
        ids, attention_mask, masking=kind, max_predictions_per_seq=5
    )
    np.testing.assert_array_equal(ids, before)
    assert {
        name: (values.dtype, values.shape) for name, values in features.items()
    } == {
        "input_ids": (np.int32, ids.shape),
        "masked_lm_positions": (np.int32, (700, 5)),
        "masked_lm_ids": (np.int32, (700, 5)),
        "masked_lm_weights": (np.float32, (700, 5)),
    }
    weights = features["masked_lm_weights"]
    counts = weights.sum(axis=1).astype(int)
    np.testing.assert_array_equal(weights, np.arange(5) < counts[:, None])
    for row, count in enumerate(counts):
        positions = features["masked_lm_positions"][row]
        labels = features["masked_lm_ids"][row]
        assert (np.diff(positions[:count]) > 0).all()
        np.testing.assert_array_equal(
            labels[:count], ids[row, positions[:count]]
        )
        assert not positions[count:].any() and not labels[count:].any()
    is_chosen = _chosen(features, ids.shape)
    assert not (is_chosen & ~_candidates(ids, attention_mask)).any()
    np.testing.assert_array_equal(
        features["input_ids"][~is_chosen], ids[~is_chosen]
    )
    replaced = features["input_ids"][is_chosen]
    assert not VOCAB.is_special[replaced[replaced != MASK]].any()


@pytest.mark.parametrize(
    "fraction, most", [(0.15, 20), (0.15, 3), (1, 40), (0.01, 20), (0.15, 0)]
)
def test_number_of_predictions_is_as_documented(fraction, most):
    ids, attention_mask = _rows(600)
    features = _mask(
        ids,
        attention_mask,
        masked_fraction=fraction,
        max_predictions_per_seq=most,
    )
    expected = [
        min(most, max(1, round(fraction * int(count)))) if count else 0
        for count in _candidates(ids, attention_mask).sum(axis=1)
    ]
    np.testing.assert_array_equal(
        features["masked_lm_weights"].sum(axis=1), expected
    )
    assert 0 in expected  # some rows have no candidates


@pytest.mark.parametrize(
    "mask_fraction, random_fraction", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
)
def test_certain_fractions_are_exact(mask_fraction, random_fraction):
    ids, attention_mask = _rows(300)
    features = _mask(
        ids,
        attention_mask,
        masked_fraction=1.0,
        max_predictions_per_seq=40,
        mask_token_fraction=mask_fraction,
        random_token_fraction=random_fraction,
    )
    is_candidate = _candidates(ids, attention_mask)
    is_chosen = _chosen(features, ids.shape)
    np.testing.assert_array_equal(is_chosen, is_candidate)
    shown = features["input_ids"][is_chosen]
    if mask_fraction:
        assert (shown == MASK).all()
    elif random_fraction:
        # All tokens but the special ones.
        np.testing.assert_array_equal(
            np.unique(shown), np.flatnonzero(~VOCAB.is_special)
        )
    else:
        np.testing.assert_array_equal(shown, ids[is_chosen])


@pytest.mark.parametrize("kind", ["token", "whole_word", "span", "ngram"])
def test_rates_equal_those_of_the_paper(kind):
    ids, attention_mask = _rows(20_000)
    features = _mask(ids, attention_mask, masking=kind)
    is_chosen = _chosen(features, ids.shape)
    original, shown = ids[is_chosen], features["input_ids"][is_chosen]
    num_chosen = len(shown)
    # A random token is the original one in 1 of 90 cases.
    rates = np.array(
        [
            (shown == MASK).mean(),
            ((shown != MASK) & (shown != original)).mean(),
            (shown == original).mean(),
        ]
    )
    expected = np.array([0.8, 0.1 * 89 / 90, 0.1 + 0.1 / 90])
    # The tokens of a span, at most 6 here, have one draw together.
    num_draws = num_chosen / (6 if kind in ("span", "ngram") else 1)
    deviations = np.sqrt(expected * (1 - expected) / num_draws)
    assert (abs(rates - expected) < 4 * deviations).all()
    random_ids = shown[(shown != MASK) & (shown != original)]
    counts = np.bincount(random_ids, minlength=VOCAB.size)[6:]
    mean = counts.mean()
    assert (abs(counts - mean) < 5 * np.sqrt(mean)).all()


def test_every_position_is_chosen_equally_often():
    ids, attention_mask = _rows(1)
    ids = np.where(ids == ids, 7, ids)
    ids[0, 0], ids[0, -1] = CLS, SEP
    ids = np.repeat(ids, 40_000, axis=0)
    is_chosen = _chosen(_mask(ids, np.ones_like(ids)), ids.shape)
    counts = is_chosen.sum(axis=0)
    assert counts[0] == counts[-1] == 0
    share = 6 / 38  # round(0.15 * 38) of 38
    deviation = np.sqrt(40_000 * share * (1 - share))
    assert (abs(counts[1:-1] - 40_000 * share) < 4.5 * deviation).all()


@pytest.mark.parametrize("kind", ["whole_word", "span", "ngram"])
def test_words_are_masked_whole(kind):
    ids, attention_mask = _rows(2000)
    features = _mask(ids, attention_mask, masking=kind)
    is_chosen = _chosen(features, ids.shape)
    is_candidate = _candidates(ids, attention_mask)
    goes_on = (VOCAB.is_continuation[ids] & is_candidate)[:, 1:]
    together = goes_on & is_candidate[:, :-1]
    np.testing.assert_array_equal(
        is_chosen[:, 1:][together], is_chosen[:, :-1][together]
    )
    if kind != "whole_word":
        return
    # Each piece of a word is replaced, or not, by a draw of its own.
    is_masked = features["input_ids"] == MASK
    both = together & is_chosen[:, 1:]
    assert (is_masked[:, 1:][both] != is_masked[:, :-1][both]).any()


def _words(ids, is_candidate):
    """The positions of each word of a row."""
    words = []
    for position, token in enumerate(ids):
        if not is_candidate[position]:
            continue
        if (
            words
            and words[-1][-1] == position - 1
            and VOCAB.tokens[token].startswith("##")
        ):
            words[-1].append(position)
        else:
            words.append([position])
    return words


def test_whole_words_are_those_of_the_simple_algorithm(monkeypatch):
    """The loop of google-research/bert, in the same random order."""
    orders = []
    shuffled = masked_units._shuffled

    def recorded(*arguments):
        orders.append(shuffled(*arguments))
        return orders[-1]

    monkeypatch.setattr(masked_units, "_shuffled", recorded)
    ids, attention_mask = _rows(1500)
    features = _mask(
        ids, attention_mask, masking="whole_word", max_predictions_per_seq=4
    )
    is_chosen = _chosen(features, ids.shape)
    is_candidate = _candidates(ids, attention_mask)
    num_skipped = 0
    for row, order in enumerate(np.concatenate(orders)):
        words = {word[0]: word for word in _words(ids[row], is_candidate[row])}
        budget = min(4, max(1, round(0.15 * int(is_candidate[row].sum()))))
        assert sorted(order[: len(words)]) == sorted(words)
        taken = []
        for start in order[: len(words)]:
            if len(taken) + len(words[start]) > budget:
                num_skipped += len(taken) < budget
                continue
            taken += words[start]
        assert sorted(taken) == np.flatnonzero(is_chosen[row]).tolist()
    assert num_skipped > 100  # The test needs skipped words.


def _recorded_units(monkeypatch):
    """A list that gets each result of `masked_units.choose`."""
    recorded = []
    choose = masked_units.choose

    def recording(*arguments):
        recorded.append(choose(*arguments))
        return recorded[-1]

    monkeypatch.setattr(masked_units, "choose", recording)
    return recorded


def _long_rows(num_rows, seq_length):
    """[CLS], words of one token, [SEP]."""
    ids = np.full((num_rows, seq_length), VOCAB.id("w1"), np.int32)
    ids[:, 0], ids[:, -1] = CLS, SEP
    return ids, np.ones_like(ids)


@pytest.mark.parametrize(
    "kind, shares, mean",
    [
        # SpanBERT, section 3.1: geometric, p = 0.2, at most 10, mean 3.8.
        ("span", 0.2 * 0.8 ** np.arange(10) / (1 - 0.8**10), 3.8),
        # ALBERT, section 4.1: 1 / n, at most 3; so 6, 3 and 2 of 11.
        ("ngram", np.array([6, 3, 2]) / 11, 18 / 11),
    ],
)
def test_lengths_of_spans_have_the_paper_s_distribution(
    kind, shares, mean, monkeypatch
):
    recorded = _recorded_units(monkeypatch)
    # In long rows the one span that is cut is a small share.
    ids, attention_mask = _long_rows(300, 3000)
    _mask(ids, attention_mask, masking=kind, max_predictions_per_seq=450)
    ((chosen, units),) = recorded
    assert len(chosen) == 300 * 450
    lengths = np.bincount(units)
    # The tokens of a unit are neighbours.
    is_inside = np.diff(units) == 0
    assert (np.diff(chosen)[is_inside] == 1).all()
    found = np.bincount(lengths, minlength=len(shares) + 1)[1:]
    assert len(found) == len(shares)
    num_cut = 300
    deviations = np.sqrt(len(lengths) * shares)
    assert (abs(found - len(lengths) * shares) < 4 * deviations + num_cut).all()
    assert abs(lengths.mean() - mean) < 0.03


@pytest.mark.parametrize("kind", ["span", "ngram"])
def test_spans_fill_the_budget_and_do_not_exceed_it(kind):
    ids, attention_mask = _rows(500, seq_length=512)
    features = _mask(
        ids, attention_mask, masking=kind, max_predictions_per_seq=77
    )
    counts = features["masked_lm_weights"].sum(axis=1)
    budgets = np.array(
        [
            max(1, round(0.15 * int(count))) if count else 0
            for count in _candidates(ids, attention_mask).sum(axis=1)
        ]
    )
    assert (counts <= budgets).all()
    assert counts.sum() > 0.998 * budgets.sum()  # words of several tokens
    # If every word is one token, the budget is filled exactly.
    ids, attention_mask = _long_rows(1000, 128)
    features = _mask(ids, attention_mask, masking=kind)
    assert (features["masked_lm_weights"].sum(axis=1) == 19).all()


@pytest.mark.parametrize("kind", ["span", "ngram"])
def test_words_are_masked_about_equally_often(kind):
    ids, attention_mask = _long_rows(20_000, 128)
    features = _mask(ids, attention_mask, masking=kind)
    shares = _chosen(features, ids.shape).mean(axis=0)[1:-1]
    assert abs(shares[10:] - 19 / 126).max() < 0.015
    assert abs(shares - 19 / 126).max() < 0.025  # a row begins with a span


@pytest.mark.parametrize("kind", ["span", "ngram"])
def test_a_span_is_replaced_as_one(kind, monkeypatch):
    recorded = _recorded_units(monkeypatch)
    ids, attention_mask = _rows(500)
    features = _mask(ids, attention_mask, masking=kind, mask_token_fraction=0.5)
    ((chosen, units),) = recorded
    is_masked = features["input_ids"].ravel()[chosen] == MASK
    of_unit = np.bincount(units, is_masked) / np.bincount(units)
    assert set(of_unit) == {0.0, 1.0}
    assert 0.4 < of_unit.mean() < 0.6
    assert np.bincount(units).max() > 2


@pytest.mark.parametrize("kind", ["span", "ngram"])
def test_no_span_contains_a_special_token(kind, monkeypatch):
    recorded = _recorded_units(monkeypatch)
    ids = np.tile([CLS, 7, 8, SEP, CLS, 9, 10, 11, SEP], (400, 4))
    _mask(ids, np.ones_like(ids), masking=kind)
    ((chosen, units),) = recorded
    is_inside = np.diff(units) == 0
    assert (np.diff(chosen)[is_inside] == 1).all()
    assert not VOCAB.is_special[ids.ravel()[chosen]].any()
    assert is_inside.any()


def test_words_of_a_segmenter_are_masked_whole():
    ids, attention_mask = _long_rows(800, 40)
    is_continuation = np.random.default_rng(1).random(ids.shape) < 0.5
    config = rows_config.MaskingConfig(masking="whole_word")
    features = masking.mask(
        ids,
        attention_mask,
        VOCAB,
        config,
        np.random.default_rng(0),
        is_continuation,
    )
    is_chosen = _chosen(features, ids.shape)
    goes_on = is_continuation[:, 2:-1]  # the first token continues no word
    np.testing.assert_array_equal(
        is_chosen[:, 2:-1][goes_on], is_chosen[:, 1:-2][goes_on]
    )
    begins = ~goes_on
    assert (is_chosen[:, 2:-1] != is_chosen[:, 1:-2])[begins].any()


def test_without_masking_rows_are_unchanged_and_weights_are_0():
    ids, attention_mask = _rows(600)
    features = _mask(ids, attention_mask, masking="none")
    np.testing.assert_array_equal(features["input_ids"], ids)
    for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
        assert features[name].shape == (600, 20)
        assert not features[name].any()


def test_held_out_rows_are_always_masked():
    config = rows_config.MaskingConfig(masking="none", masked_fraction=0.3)
    assert config.held_out == rows_config.MaskingConfig(masked_fraction=0.3)
    config = rows_config.MaskingConfig(masking="span")
    assert config.held_out is config


def test_a_word_longer_than_the_budget_is_not_masked():
    word = [VOCAB.id("w1")] + [VOCAB.id("##p1")] * 9
    ids = np.array([[CLS, *word, SEP]], np.int32)
    features = _mask(ids, np.ones_like(ids), masking="whole_word")
    np.testing.assert_array_equal(features["input_ids"], ids)
    assert not features["masked_lm_weights"].any()


def test_a_row_may_begin_within_a_word():
    ids = np.array(
        [[CLS, VOCAB.id("##p1"), VOCAB.id("##p2"), SEP, VOCAB.id("##p3"), SEP]],
        np.int32,
    )
    features = _mask(
        ids,
        np.ones_like(ids),
        masking="whole_word",
        masked_fraction=1.0,
        mask_token_fraction=1.0,
        random_token_fraction=0.0,
    )
    assert features["input_ids"].tolist() == [[CLS, MASK, MASK, SEP, MASK, SEP]]


@pytest.mark.parametrize("kind", ["token", "whole_word", "span", "ngram"])
def test_a_seed_fixes_the_masks_and_another_changes_them(kind):
    ids, attention_mask = _rows(1100)
    first, again, other = (
        _mask(ids, attention_mask, seed=seed, masking=kind)
        for seed in (1, 1, 2)
    )
    for name, values in first.items():
        assert values.tobytes() == again[name].tobytes()
    for name in ("input_ids", "masked_lm_positions", "masked_lm_ids"):
        assert first[name].tobytes() != other[name].tobytes()


def test_long_rows_are_masked_over_their_whole_length():
    ids = np.full((200, 3000), 7, np.int32)
    features = _mask(ids, np.ones_like(ids), max_predictions_per_seq=450)
    assert (features["masked_lm_weights"] == 1).all()
    assert abs(features["masked_lm_positions"].mean() - 1499.5) < 15


def test_no_rows_give_no_masks():
    ids = np.zeros((0, 8), np.int32)
    assert _mask(ids, ids)["masked_lm_ids"].shape == (0, 20)


@pytest.mark.parametrize(
    "values, named",
    [
        ({"masked_fraction": 0.0}, "masked_fraction=0.0"),
        ({"masked_fraction": 1.5}, "masked_fraction=1.5"),
        ({"mask_token_fraction": -0.1}, "mask_token_fraction=-0.1"),
        ({"mask_token_fraction": 0.95}, "more than 1 together"),
        ({"max_predictions_per_seq": -1}, "max_predictions_per_seq=-1"),
        ({"segmenter": "jieba"}, "masking='token' does not use"),
    ],
)
def test_impossible_options_are_refused(values, named):
    with pytest.raises(errors.UserError, match=named):
        rows_config.MaskingConfig(**values)
