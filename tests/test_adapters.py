"""Adapters change nothing at first, are all that is trained, and merge."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain import errors
from bert_pretrain.data import records
from bert_pretrain.model import adapters, bert_model, heads, model_config
from helpers import strategies

ALL_TARGETS = tuple(adapters.TARGETS)
LORA = model_config.AdapterConfig(adapter="lora", lora_rank=3)
CONFIGS = {
    "lora-all": model_config.AdapterConfig(
        adapter="lora", lora_rank=2, lora_targets=ALL_TARGETS
    ),
    "bottleneck": model_config.AdapterConfig(
        adapter="bottleneck", bottleneck_size=4
    ),
}
every_adapter = pytest.mark.parametrize(
    "config", CONFIGS.values(), ids=CONFIGS.keys()
)


def classifier(**options):
    tf_keras.utils.set_random_seed(3)
    return bert_model.from_config(
        transformers.BertConfig(
            **{
                "vocab_size": 60,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 48,
                "max_position_embeddings": 20,
                "initializer_range": 0.2,
                "architectures": ["BertForSequenceClassification"],
                **options,
            }
        )
    )


def packed_batch():
    """Two rows; the first has two documents, and both have padding."""
    document_ids = np.zeros([2, 20], np.int32)
    document_ids[0, :7] = document_ids[1, :12] = 1
    document_ids[0, 7:18] = 2
    batch = {
        "input_ids": np.random.default_rng(5).integers(5, 60, [2, 20]),
        "attention_mask": document_ids > 0,
        "token_type_ids": np.zeros([2, 20]),
        "document_ids": document_ids,
        "position_ids": records.position_ids(tf.constant(document_ids)),
        "label_positions": [[0, 7], [0, 0]],
        "slot_documents": [[1, 2], [1, 0]],
    }
    return {name: tf.cast(value, tf.int32) for name, value in batch.items()}


def logits_of(model, batch, dtype=tf.float32, recompute=False):
    pooled_BPH = heads.pooled(model, batch, "cls", dtype, recompute=recompute)
    return heads.classification_logits(model, pooled_BPH, "cls")


def spread(added):
    """Gives all variables of adapters random values."""
    rng = np.random.default_rng(7)
    for variable in added.variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))


@every_adapter
def test_at_first_an_adapted_model_is_its_base(config):
    bert, batch = classifier(), packed_batch()
    added = adapters.build(bert, config, seed=1)
    np.testing.assert_array_equal(
        logits_of(added.view(bert), batch), logits_of(bert, batch)
    )
    # The model itself does not take the adapters for its own.
    assert len(bert.weights) == len(classifier().weights)
    spread(added)
    difference = logits_of(added.view(bert), batch) - logits_of(bert, batch)
    assert np.abs(difference).min() > 1e-3


def test_without_adapters_the_view_is_the_model():
    bert, batch = classifier(), packed_batch()
    added = adapters.build(bert, model_config.AdapterConfig(), seed=1)
    assert not added.variables
    np.testing.assert_array_equal(
        logits_of(added.view(bert), batch), logits_of(bert, batch)
    )


@pytest.mark.parametrize("name", ["lora-all", "bottleneck"])
def test_gradients_reach_all_variables_of_the_adapters(name):
    # Computed again, which is where gradients of variables get lost.
    bert, batch = classifier(num_hidden_layers=1), packed_batch()
    added = adapters.build(bert, CONFIGS[name], seed=1)
    spread(added)

    @tf.function
    def loss_and_gradients():
        with tf.GradientTape() as tape:
            logits = logits_of(added.view(bert), batch, recompute=True)
            loss = tf.reduce_sum(tf.sin(logits))
        return loss, tape.gradient(loss, added.variables)

    gradients = [g.numpy() for g in loss_and_gradients()[1]]
    assert len(gradients) == {"lora-all": 12, "bottleneck": 4}[name]
    norms = [np.linalg.norm(gradient) for gradient in gradients]
    assert min(norms) > 1e-2
    # Steps of equal length in all variables change the loss as they say.
    losses = []
    for step in (1e-4, -2e-4):
        for variable, gradient, norm in zip(
            added.variables, gradients, norms, strict=True
        ):
            variable.assign_add(step * gradient / norm)
        losses.append(float(loss_and_gradients()[0]))
    assert (losses[0] - losses[1]) / 2e-4 == pytest.approx(sum(norms), rel=0.05)


def test_a_merged_model_computes_what_its_view_did():
    bert, batch = classifier(), packed_batch()
    added = adapters.build(bert, CONFIGS["lora-all"], seed=1)
    spread(added)
    before = logits_of(added.view(bert), batch)
    adapters.merge(bert, added)
    np.testing.assert_allclose(logits_of(bert, batch), before, atol=1e-6)


def test_bottlenecks_do_not_merge():
    bert = classifier()
    added = adapters.build(bert, CONFIGS["bottleneck"], seed=1)
    with pytest.raises(errors.UserError, match="cannot be merged"):
        adapters.merge(bert, added)


def test_bfloat16_is_near_float32():
    bert, batch = classifier(), packed_batch()
    added = adapters.build(bert, CONFIGS["bottleneck"], seed=1)
    spread(added)
    wide, narrow = (
        logits_of(added.view(bert), batch, dtype)
        for dtype in (tf.float32, tf.bfloat16)
    )
    assert np.abs(wide - narrow).mean() < 0.05


def test_first_values_follow_from_the_seed():
    bert = classifier()
    first, same, other = (
        [v.numpy() for v in adapters.build(bert, config, seed).variables]
        for config in [LORA]
        for seed in (1, 1, 2)
    )
    assert all(map(np.array_equal, first, same))
    assert not all(map(np.array_equal, first, other))
    # No two layers begin alike.
    drawn = [values for values in first if values.any()]
    assert len({values.tobytes() for values in drawn}) == len(drawn) == 4


@every_adapter
def test_a_checkpoint_holds_the_adapters(config, tmp_path):
    bert = classifier()
    first, second = (adapters.build(bert, config, seed) for seed in (1, 2))
    spread(first)
    path = tf.train.Checkpoint(adapters=first).write(f"{tmp_path}/a")
    tf.train.Checkpoint(adapters=second).read(path).assert_consumed()
    for saved, restored in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(saved.numpy(), restored.numpy())


def test_replicas_share_the_adapters():
    strategy, batch = strategies.strategy_of(2), packed_batch()
    with strategy.scope():
        bert = classifier(num_hidden_layers=1)
        added = adapters.build(bert, LORA, seed=1)
    spread(added)

    @tf.function
    def gradients():
        def on_replica():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(logits_of(added.view(bert), batch))
            found = tape.gradient(loss, added.variables)
            replica = tf.distribute.get_replica_context()
            return replica.all_reduce(tf.distribute.ReduceOp.MEAN, found)

        return strategy.experimental_local_results(strategy.run(on_replica))[0]

    alone = classifier(num_hidden_layers=1)
    single = adapters.build(alone, LORA, seed=1)
    spread(single)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(logits_of(single.view(alone), batch))
    for ours, expected in zip(
        gradients(), tape.gradient(loss, single.variables), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def size_of(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize(
    "shape, config, share",
    [
        # What `AdapterConfig` has by default, on one layer of BERT-base. The
        # other eleven are alike.
        ("base", model_config.AdapterConfig(adapter="lora"), 0.009),
        ("base", model_config.AdapterConfig(adapter="bottleneck"), 0.009),
        ("tiny", model_config.AdapterConfig(adapter="lora"), 0.02),
        ("tiny", model_config.AdapterConfig(adapter="bottleneck"), 0.02),
    ],
)
def test_less_than_two_percent_of_a_model_is_trained(shape, config, share):
    num_layers, hidden_size, vocab_size = {
        "base": (12, 768, 30_522),
        "tiny": (2, 128, 8_000),
    }[shape]
    bert = classifier(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=1,
        num_attention_heads=hidden_size // 64,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=512,
    )
    added = adapters.build(bert, config, seed=1)
    of_layers = num_layers - 1
    total = size_of(bert.weights) + of_layers * size_of(
        bert.bert.encoder.layer[0].weights
    )
    trained = num_layers * size_of(added.variables) + size_of(
        heads.head_variables(bert, "cls")
    )
    assert 0.001 < trained / total < share


def test_impossible_options_are_refused():
    for values, message in (
        ({"lora_rank": 0}, "--lora_rank=0"),
        ({"lora_alpha": 0.0}, "--lora_alpha=0.0 must be positive"),
        ({"bottleneck_size": 0}, "--bottleneck_size=0"),
        ({"adapter": "lora", "lora_targets": ()}, "--lora_targets is empty"),
    ):
        with pytest.raises(errors.UserError, match=message):
            model_config.AdapterConfig(**values)
