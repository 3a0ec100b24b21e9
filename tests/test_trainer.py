"""The update: right, and the same on one replica or two."""

import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain.data import records
from bert_pretrain.model import bert_model, objectives
from bert_pretrain.training import (
    optimizer,
    schedule,
    train_state,
    trainer,
    training_config,
)
from helpers import datasets, strategies

NUM_ROWS = 8


def batches():
    """Rows whose predictions are all in the first half of each batch."""
    rows = datasets.random_rows(NUM_ROWS * 3)
    rows["masked_lm_weights"] = rows["masked_lm_weights"].copy()
    for start in range(0, len(rows["masked_lm_weights"]), NUM_ROWS):
        rows["masked_lm_weights"][start + 5 : start + NUM_ROWS] = 0
        rows["masked_lm_weights"][start, 0] = 1
    rows["next_sentence_labels"] = rows["next_sentence_labels"][:, 0]
    return {
        name: value.astype(
            np.float32 if value.dtype == np.float32 else np.int32
        )
        for name, value in rows.items()
    }


def endless(strategy, rows, change=lambda batch: batch):
    """Endless global batches of the rows, each changed by `change`."""
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    dataset = dataset.batch(NUM_ROWS, drop_remainder=True).repeat().map(change)
    return strategy.experimental_distribute_dataset(
        records.without_autotuning(dataset)
    )


def trainer_of(
    num_replicas, pairing="nsp", dropout=0.0, kind="adamw", **options
):
    strategy = strategies.strategy_of(num_replicas)
    values = {
        "global_batch_size": NUM_ROWS,
        "dtype": tf.float32,
        "max_gradient_norm": 1.0,
        "seed": 1,
        **options,
    }
    name = "BertForMaskedLM" if pairing == "none" else "BertForPreTraining"
    with strategy.scope():
        tf_keras.utils.set_random_seed(0)
        bert = bert_model.from_config(
            transformers.BertConfig(
                vocab_size=60,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=16,
                architectures=[name],
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
            )
        )
        adam = optimizer.build(
            training_config.OptimizerConfig(optimizer=kind),
            schedule.Schedule(
                training_config.ScheduleConfig(
                    total_steps=50, warmup_steps=0, peak_learning_rate=1e-2
                )
            ),
            bert.trainable_variables,
        )
        state = train_state.new_state(objectives.Pretraining(bert), adam)
    return bert, trainer.Trainer(
        strategy,
        state,
        endless(strategy, batches()),
        trainer.UpdateConfig(**values),
    )


# A low limit shows a difference if each replica clips its own gradient.
@pytest.mark.slow
@pytest.mark.parametrize(
    "max_gradient_norm, kind", [(0.0, "adamw"), (0.2, "adamw"), (0.2, "lamb")]
)
def test_replicas_do_not_change_the_update(max_gradient_norm, kind):
    outputs, weights = [], []
    for num_replicas in (1, 2):
        bert, bert_trainer = trainer_of(
            num_replicas, kind=kind, max_gradient_norm=max_gradient_norm
        )
        outputs.append(bert_trainer.train(tf.constant(5)))
        weights.append([v.numpy() for v in bert.trainable_variables])
    for name, value in outputs[0].items():
        assert outputs[1][name] == pytest.approx(value, rel=1e-4), name
    assert_same_weights(bert, *weights)


@pytest.mark.slow
@pytest.mark.parametrize("num_replicas, num_parts", [(1, 4), (2, 2)])
def test_an_accumulated_update_equals_that_of_the_large_batch(
    num_replicas, num_parts
):
    outputs, weights = [], []
    for accumulation_steps in (1, num_parts):
        bert, bert_trainer = trainer_of(
            num_replicas,
            max_gradient_norm=0.2,
            accumulation_steps=accumulation_steps,
        )
        outputs.append(bert_trainer.train(tf.constant(3)))
        weights.append([v.numpy() for v in bert.trainable_variables])
    for name, value in outputs[0].items():
        assert outputs[1][name] == pytest.approx(value, rel=1e-5), name
    assert_same_weights(bert, *weights)


@pytest.mark.slow
def test_recomputing_does_not_change_the_update():
    weights = []
    for recompute in (False, True):
        bert, bert_trainer = trainer_of(
            2, dropout=0.1, accumulation_steps=2, recompute=recompute
        )
        bert_trainer.train(tf.constant(2))
        weights.append([v.numpy() for v in bert.trainable_variables])
    assert_same_weights(bert, *weights)


def assert_same_weights(bert, one, two):
    names = [v.name for v in bert.trainable_variables]
    for name, ours, theirs in zip(names, one, two, strict=True):
        if "key/bias" in name:
            # Its gradient is only rounding, which Adam magnifies.
            continue
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-3, atol=2e-4, err_msg=name
        )


@pytest.mark.slow
def test_gradients_are_summed_once_in_each_update():
    _, bert_trainer = trainer_of(2, accumulation_steps=2)
    iterator = iter(bert_trainer._train_dataset)

    @tf.function
    def step():
        bert_trainer.train_step(iterator)

    graph = step.get_concrete_function().graph.as_graph_def()
    loops = {
        node.attr["body"].func.name for node in graph.node if node.op == "While"
    }
    in_loops = {
        node.op
        for function in graph.library.function
        if function.signature.name in loops
        for node in function.node_def
    }
    assert len(loops) == 2  # one for each replica
    assert "MatMul" in in_loops
    assert "CollectiveReduceV2" not in in_loops
    assert "CollectiveReduceV2" in {node.op for node in graph.node}


def test_the_reported_means_weigh_all_predictions_equally():
    bert, bert_trainer = trainer_of(2)
    rows = {
        name: tf.constant(value[:NUM_ROWS]) for name, value in batches().items()
    }
    sums = objectives.Pretraining(bert).forward(rows, tf.float32)
    output = bert_trainer.train(tf.constant(1))
    for objective, part in sums.items():
        for name, value in (
            ("loss", part.loss),
            ("accuracy", part.num_correct),
        ):
            assert output[f"{objective}_{name}"] == pytest.approx(
                float(value / part.num_predictions), rel=1e-5
            )


def test_gradients_are_divided_then_scaled_down_to_the_norm_and_never_up():
    gradients = [tf.constant([6.0, 0.0]), tf.constant([[8.0]])]
    clipped, norm = trainer._divide_and_clip(gradients, 2.0, 0.5)
    assert float(norm) == 5.0
    np.testing.assert_allclose(clipped[0], [0.3, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped[1], [[0.4]], rtol=1e-6)
    for limit in (0.0, 7.0):
        clipped, _ = trainer._divide_and_clip(gradients, 2.0, limit)
        np.testing.assert_array_equal(clipped[0], gradients[0] / 2)


@pytest.mark.slow
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_loop_counts_its_tokens_and_measures_the_parameters(num_replicas):
    bert, bert_trainer = trainer_of(num_replicas)
    bert_trainer.train(tf.constant(2))
    output = bert_trainer.train(tf.constant(4))
    mask = batches()["attention_mask"]
    # Six batches in all: the epoch of three, twice. Two were in the first loop.
    num_tokens = 2 * mask.sum() - mask[: 2 * NUM_ROWS].sum()
    assert bert_trainer.last_loop.num_tokens == num_tokens
    squares = sum(float(tf.reduce_sum(v**2)) for v in bert.trainable_variables)
    assert output["parameter_norm"] == pytest.approx(squares**0.5, rel=1e-6)


class SlowInput:
    """Batches that take 0.1 seconds each, by a clock that it moves itself.

    A batch is made only after the trainer has read the clock to wait for it,
    so that no batch is ready before it is asked for.
    """

    def __init__(self, monkeypatch):
        self._seconds = 0.0
        self._num_readings = 0
        self._asked = threading.Semaphore(0)
        monkeypatch.setattr(
            tf,
            "timestamp",
            lambda: tf.numpy_function(self._read, [], tf.float64),
        )
        monkeypatch.setattr(trainer.time, "perf_counter", self._read_by_host)

    def make(self, batch):
        ids = tf.numpy_function(self._make, [batch["input_ids"]], tf.int32)
        ids.set_shape(batch["input_ids"].shape)
        return {**batch, "input_ids": ids}

    def forget(self):
        """Forgets the batches that the trainer has asked others for."""
        while self._asked.acquire(blocking=False):
            pass

    def end(self):
        """Lets the threads go that make batches ahead."""
        self._asked.release(1000)

    def _read(self):
        self._num_readings += 1
        if self._num_readings % 2:  # Before the batch, not after it.
            self._asked.release()
        return self._seconds

    def _read_by_host(self):
        self._seconds += 1
        return self._seconds

    def _make(self, ids):
        self._asked.acquire()
        self._seconds += 0.1
        return ids


@pytest.fixture
def slow_input(monkeypatch):
    slow = SlowInput(monkeypatch)
    yield slow
    slow.end()


@pytest.mark.slow
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_loop_knows_how_long_it_waited_for_slow_input(
    num_replicas, slow_input
):
    _, bert_trainer = trainer_of(num_replicas)
    bert_trainer.train(tf.constant(5))
    assert bert_trainer.last_loop.input_seconds == 0
    assert bert_trainer.last_loop.seconds == pytest.approx(1)
    slow_input.forget()
    bert_trainer.train_dataset = endless(
        bert_trainer._strategy, batches(), slow_input.make
    )
    bert_trainer.train(tf.constant(5))
    loop = bert_trainer.last_loop
    assert loop.input_seconds == pytest.approx(5 * 0.1, abs=1e-5)
    assert loop.seconds == pytest.approx(1 + 5 * 0.1)


def test_training_learns_the_few_rows_it_sees():
    _, bert_trainer = trainer_of(1, pairing="none")
    first = bert_trainer.train(tf.constant(3))
    last = bert_trainer.train(tf.constant(40))
    last = bert_trainer.train(tf.constant(3))
    assert first["masked_lm_loss"] > 4.0
    assert last["masked_lm_loss"] < 2.5
    assert last["masked_lm_accuracy"] > 0.5


def test_dropout_masks_differ_between_steps_replicas_and_seeds():
    seen = set()
    for seed in (1, 2):
        _, bert_trainer = trainer_of(2, seed=seed)
        for step in range(3):
            bert_trainer.state.optimizer.iterations.assign(step)
            seeds = tf.function(bert_trainer._strategy.run)(
                lambda t=bert_trainer: t._dropout_seed(
                    tf.distribute.get_replica_context()
                )
            )
            seen |= {
                tuple(s.numpy())
                for s in bert_trainer._strategy.experimental_local_results(
                    seeds
                )
            }
    assert len(seen) == 2 * 3 * 2


def test_a_batch_without_predictions_causes_no_division_by_zero():
    bert, _ = trainer_of(1)
    learner = objectives.Pretraining(bert)
    assert learner.means(dict.fromkeys(learner.sum_names, 0.0)) == {
        "masked_lm_loss": 0.0,
        "masked_lm_accuracy": 0.0,
        "next_sentence_loss": 0.0,
        "next_sentence_accuracy": 0.0,
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_bad_step_is_counted_and_left_out_of_the_means(num_replicas):
    _, undisturbed = trainer_of(num_replicas)
    _, disturbed = trainer_of(num_replicas)
    spoilt = batches()
    # A row of the second batch, for the last replica.
    spoilt["masked_lm_weights"][2 * NUM_ROWS - 1, 0] = np.nan
    disturbed.train_dataset = endless(disturbed._strategy, spoilt)
    expected = undisturbed.train(tf.constant(1))
    output = disturbed.train(tf.constant(2))
    assert (expected["bad_steps"], output["bad_steps"]) == (0, 1)
    for name in ("masked_lm_loss", "masked_lm_accuracy", "gradient_norm"):
        assert output[name] == pytest.approx(expected[name], rel=1e-6), name
    assert disturbed.state.step == 2
    assert disturbed.state.num_examples.numpy() == 2 * NUM_ROWS
    assert disturbed.state.bad_steps_in_row.numpy() == 1
    assert disturbed.last_loop.longest_bad_row == 1
    # Its tokens count, because it takes as long as other steps.
    num_tokens = spoilt["attention_mask"][: 2 * NUM_ROWS].sum()
    assert disturbed.last_loop.num_tokens == num_tokens
    for ours, theirs in zip(
        disturbed.state.bert.weights,
        undisturbed.state.bert.weights,
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    disturbed.train(tf.constant(1))
    assert disturbed.state.bad_steps_in_row.numpy() == 0
    assert disturbed.last_loop.longest_bad_row == 0
