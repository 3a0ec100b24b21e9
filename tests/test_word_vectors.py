"""Word vectors from counts, as the first embeddings of a run."""

import numpy as np
import pytest
import scipy.special

from bert_pretrain import errors
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.model import bert_model, model_config
from bert_pretrain.pretraining import pretraining, word_vectors
from helpers import datasets

_CLS, _SEP = (
    vocabulary.SPECIAL_TOKENS.index(token)
    for token in (vocabulary.CLS, vocabulary.SEP)
)
# Tokens of two subjects, which no document mixes.
_SUBJECTS = np.arange(5, 30), np.arange(30, 55)


@pytest.fixture
def two_subjects(make_dataset):
    """A dataset of rows `[CLS] … [SEP] … [SEP]`, a subject in each half."""
    data_dir = make_dataset(train=(400,), seq_length=16)
    rows = datasets.random_rows(400)
    rng = np.random.default_rng(0)
    for ids_S in rows["input_ids"]:
        first, second = rng.permutation(2)
        ids_S[0], ids_S[[7, 15]] = _CLS, _SEP
        ids_S[1:7] = rng.choice(_SUBJECTS[first], 6)
        ids_S[8:15] = rng.choice(_SUBJECTS[second], 7)
    datasets.replace_training_rows(data_dir, rows)
    return data_dir


def read_words(data_dir):
    manifest = manifests.read(data_dir)
    return manifest, manifests.read_vocabulary(data_dir, manifest)


def test_tokens_of_one_subject_get_similar_vectors(two_subjects):
    _, _, counts = word_vectors.count(two_subjects, *read_words(two_subjects))
    vectors = word_vectors.factorize(counts, 8, seed=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    first, second = (vectors[subject] for subject in _SUBJECTS)
    within = min((first @ first.T).mean(), (second @ second.T).mean())
    assert within > 0.3 + (first @ second.T).mean()


def test_only_tokens_between_two_boundaries_are_near(make_dataset):
    data_dir = make_dataset(train=(1,), seq_length=16)
    rows = datasets.random_rows(1)
    rows["input_ids"][0] = [_CLS, 10, 11, 12, _SEP, 13, 14] + [_SEP] + [0] * 8
    datasets.replace_training_rows(data_dir, rows)
    frequencies, contexts, counts = word_vectors.count(
        data_dir, *read_words(data_dir)
    )
    assert np.flatnonzero(frequencies).tolist() == [10, 11, 12, 13, 14]
    near = {
        (token, int(contexts[column])): float(counts[token, column])
        for token, column in zip(*counts.nonzero(), strict=True)
    }
    assert near == {
        **dict.fromkeys([(10, 11), (11, 10), (11, 12), (12, 11)], 1.0),
        **dict.fromkeys([(10, 12), (12, 10)], pytest.approx(0.8)),
        **dict.fromkeys([(13, 14), (14, 13)], 1.0),
    }


@pytest.fixture
def begin(make_config, monkeypatch):
    """`begin(data_dir, ...)` -> the state that a run trains from."""

    class Begun(Exception):
        pass

    def begin(data_dir, **architecture):
        states = []

        def stop(config, phases, strategy, new_state, **rest):
            states.append(new_state())
            raise Begun

        monkeypatch.setattr(pretraining.training_loop, "train", stop)
        with pytest.raises(Begun):
            pretraining.train(make_config(data_dir, architecture=architecture))
        return states[0]

    return begin


def test_a_run_begins_with_the_vectors_and_the_frequencies(two_subjects, begin):
    bert = begin(two_subjects, initial_embeddings="cooccurrence").bert
    frequencies, contexts, _ = word_vectors.count(
        two_subjects, *read_words(two_subjects)
    )
    np.testing.assert_allclose(
        scipy.special.softmax(bert.mlm.predictions.bias.numpy()),
        (frequencies + 1) / (frequencies + 1).sum(),
        rtol=1e-4,
    )
    table = bert.bert.embeddings.weight.numpy()
    assert np.sqrt((table[contexts] ** 2).mean()) == pytest.approx(0.06)
    others = np.flatnonzero(frequencies == 0)
    np.testing.assert_array_equal(
        table[others],
        begin(two_subjects).bert.bert.embeddings.weight.numpy()[others],
    )


def test_too_little_text_for_vectors_is_refused(make_dataset):
    data_dir = make_dataset()
    manifest = manifests.read(data_dir)
    bert = bert_model.build(
        model_config.ModelConfig(model_size="tiny"), manifest, seed=0
    )
    with pytest.raises(errors.UserError, match="55 tokens .* vectors of 128"):
        word_vectors.initialize(bert, data_dir, manifest, seed=0)


def test_embeddings_have_one_beginning():
    with pytest.raises(errors.UserError, match="leave one out"):
        model_config.ModelConfig(
            init_from="export", initial_embeddings="cooccurrence"
        )
