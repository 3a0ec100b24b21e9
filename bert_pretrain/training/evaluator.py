"""One pass of evaluation over a held-out split."""

import math

import numpy as np
import orbit
import tensorflow as tf

from bert_pretrain.model import objectives
from bert_pretrain.training import running_sums


class Evaluator(orbit.StandardEvaluator):
    """Weighs every prediction of the split the same, whatever its batch.

    All batches go through one loop inside a `tf.function`, as in training: a
    device has the next one before the host has heard of the last.
    """

    def __init__(self, bert, batches, *, dtype):
        """Prepares the evaluation; call it in the strategy's scope."""
        super().__init__(
            batches, orbit.StandardEvaluatorOptions(use_tf_while_loop=True)
        )
        self._strategy = tf.distribute.get_strategy()
        self._bert = bert
        self._dtype = dtype
        self._sums = running_sums.RunningSums(objectives.sum_names(bert))

    @tf.function
    def eval_begin(self):
        self._strategy.run(self._sums.reset)

    def eval_step(self, iterator):
        self._strategy.run(self._replica_step, args=(next(iterator),))

    def _replica_step(self, batch):
        self._sums.add(
            objectives.flatten(
                objectives.forward(self._bert, batch, self._dtype)
            )
        )

    def eval_end(self):
        output = objectives.means(self._sums.read())
        output["masked_lm_perplexity"] = math.exp(
            min(output["masked_lm_loss"], 700.0)
        )
        return output


def unigram_entropy(batches, vocab_size):
    """Entropy, in nats, of the held-out labels' own frequencies.

    The loss of a model that knows how often each label occurs and does not
    look at the text; one that has learned to read is below.

    Args:
      batches: of `records.parse`'s features, on this host.
    """
    counts = np.zeros(vocab_size)
    for batch in batches:
        counts += np.bincount(
            batch["masked_lm_ids"].numpy().ravel(),
            batch["masked_lm_weights"].numpy().ravel(),
            vocab_size,
        )
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
