"""The bridge: every program of a run crosses it, and what is wrong is told."""

import pytest
import tensorflow as tf
import tensorflow_text

from bert_pretrain.data import input_pipeline, records
from bert_pretrain.devices import distribution_config
from bert_pretrain.model import bert_model
from bert_pretrain.pretraining import blueprint
from bert_pretrain.tpu import absent_tpu, bridge
from helpers import strategies, tpu_programs


@pytest.mark.parametrize(
    "kind, num_hosts",
    [
        pytest.param("lamb", 2, marks=pytest.mark.slow),
        ("packed", 1),
        pytest.param("dynamic pairs", 2, marks=pytest.mark.slow),
    ],
)
def test_every_program_of_a_run_can_be_converted(
    kind, num_hosts, make_dataset, tmp_path
):
    config = tpu_programs.config_of(
        kind,
        make_dataset,
        tmp_path,
        devices=distribution_config.DistributionConfig(precision="bfloat16"),
    )
    strategy = absent_tpu.AbsentTPUStrategy(2 * num_hosts, num_hosts)
    parts = tpu_programs.setup_of(config, strategy)
    trainer, evaluator = parts.trainer, parts.evaluator
    num_steps = tf.constant(3)

    loop = bridge.check(
        trainer.create_train_loop_fn().get_concrete_function(
            iter(trainer.train_dataset), num_steps
        )
    )
    # One sum for each gradient, one for all else, and two for the counts that
    # weigh two objectives. Replicas keep their own counts without a sum.
    num_counts = 2 * bert_model.has_pairs(trainer.state.bert)
    num_sums = len(trainer.state.variables) + 1 + num_counts
    assert loop.device["CrossReplicaSum"] == num_sums
    # A batch for each replica and a loop around it, and nothing else.
    assert loop.host["IteratorGetNext"] == 2 * num_hosts
    assert loop.host["While"] == 1

    evaluation = bridge.check(
        evaluator.create_eval_loop_fn(has_state=False).get_concrete_function(
            iter(evaluator.eval_dataset), num_steps
        )
    )
    assert not evaluation.device["CrossReplicaSum"]
    for sums in (trainer._sums, evaluator._sums):
        gathered = bridge.check(sums._gather.get_concrete_function())
        assert gathered.device["CrossReplicaSum"] == 1
    for function in (
        trainer._begin_loop,
        trainer._parameter_norm,
        trainer._is_finite,
        evaluator.eval_begin,
    ):
        crossed = bridge.check(function.get_concrete_function())
        assert not crossed.device["CrossReplicaSum"]


@pytest.mark.parametrize("kind", tpu_programs.KINDS)
def test_a_host_of_a_tpu_can_read_the_input(kind, make_dataset, tmp_path):
    config = tpu_programs.config_of(kind, make_dataset, tmp_path)
    (phase,) = blueprint.plan(config)
    hosts = strategies.Hosts(2)
    batches = input_pipeline.train_batches(
        hosts,
        phase.data_dir,
        phase.manifest,
        phase.global_batch_size,
        config.seed,
        range(8),
        phase.masking,
    )
    eval_batches, _ = input_pipeline.eval_batches(
        hosts, phase.data_dir, phase.manifest, records.EVAL, 8
    )
    for dataset in (*batches, *eval_batches):
        bridge.check_input(dataset)


def tokenize(text):
    return tensorflow_text.WhitespaceTokenizer().tokenize(text).to_tensor()


@pytest.mark.parametrize(
    "change, reason",
    [
        (tokenize, "the input: TFText.* is not TensorFlow's own"),
        (
            lambda text: tf.py_function(lambda t: t, [text], tf.string),
            "the input: EagerPyFunc calls Python",
        ),
        (
            lambda text: tf.numpy_function(lambda t: t, [text], tf.string),
            "the input: PyFunc calls Python",
        ),
    ],
)
def test_input_that_a_host_of_a_tpu_cannot_read_is_refused(change, reason):
    texts = tf.data.Dataset.from_tensor_slices([["a b", "c"]])
    bridge.check_input(texts.map(tf.strings.upper))
    with pytest.raises(ValueError, match=reason):
        bridge.check_input(texts.map(change))


@pytest.fixture(scope="module")
def strategy():
    return absent_tpu.AbsentTPUStrategy(2)


@pytest.fixture(scope="module")
def weight(strategy):
    """A variable: TensorFlow cannot compute a result from it in advance."""
    with strategy.scope():
        return tf.Variable(tf.ones([2, 2]))


def traced(strategy, function, beside=lambda: None):
    """A function for hosts, in which the replicas call another function."""

    @tf.function(autograph=False)
    def call():
        beside()
        return strategy.run(function)

    return call.get_concrete_function()


def summed(values):
    return tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, values
    )


def test_a_sum_over_replicas_is_one_operation(strategy):
    crossed = bridge.check(traced(strategy, lambda: summed(tf.ones([2]))))
    assert crossed.num_clusters == 1
    assert crossed.device["CrossReplicaSum"] == 1


@pytest.mark.parametrize(
    "function, reason",
    [
        (
            lambda w: tf.py_function(lambda x: x, [w], tf.float32),
            "EagerPyFunc.* isn't compilable",
        ),
        (tf.math.bessel_i0, "BesselI0.* isn't compilable"),
        (tf.strings.as_string, "AsString.* invalid op"),
        (tf.print, "PrintV2.* invalid op"),
        (
            lambda w: w + tf.random.stateless_uniform([2, 2], [1, 2]),
            "StatelessRandomUniform.* draws other numbers on a TPU",
        ),
        (
            lambda w: tf.debugging.assert_equal(tf.reduce_sum(w), 4.0),
            "Assert checks nothing",
        ),
        (
            lambda w: summed(tf.cast(w, tf.float64)),
            "CrossReplicaSum adds no float64",
        ),
    ],
)
def test_what_a_tpu_cannot_compute_is_refused(
    strategy, weight, function, reason
):
    def compute():
        return function(tf.convert_to_tensor(weight))

    with pytest.raises(ValueError, match=reason):
        bridge.check(traced(strategy, compute))


def counter(strategy, aggregation):
    with strategy.scope():
        return tf.Variable(
            tf.zeros([], tf.int64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_WRITE,
            aggregation=aggregation,
        )


def test_an_int64_is_not_summed_over_replicas(strategy):
    # The metrics of tf_keras count like this under a TPUStrategy, and the
    # trainer once did.
    tokens = counter(strategy, tf.VariableAggregation.SUM)
    with pytest.raises(TypeError, match="DataType int64 not in list"):
        traced(strategy, lambda: tokens.assign_add(tf.ones([], tf.int64)))


def test_a_counter_that_is_sent_between_replicas_at_each_step_is_refused(
    strategy,
):
    steps = counter(strategy, tf.VariableAggregation.ONLY_FIRST_REPLICA)
    with pytest.raises(ValueError, match="AllToAll sends each replica values"):
        bridge.check(
            traced(strategy, lambda: steps.assign_add(tf.ones([], tf.int64)))
        )


def test_a_computation_outside_of_the_cluster_is_refused(strategy, weight):
    def multiply():
        weight.assign(tf.matmul(weight, weight))

    with pytest.raises(ValueError, match="the host: MatMul is computed out"):
        bridge.check(traced(strategy, lambda: weight * 2, multiply))


def test_two_programs_in_a_step_are_refused(strategy):
    def run():
        strategy.run(lambda: summed(tf.ones([])))

    with pytest.raises(
        ValueError, match="2 clusters; a call must have exactly"
    ):
        bridge.check(traced(strategy, lambda: summed(tf.ones([])), run))
