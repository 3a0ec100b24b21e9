"""One pass of evaluation over a held-out split."""

import math

import numpy as np
import orbit
import tensorflow as tf

from bert_pretrain import trainer


class Evaluator(orbit.StandardEvaluator):
    """Weighs every prediction of the split the same, whatever its batch."""

    def __init__(self, bert, batches, *, dtype):
        super().__init__(batches)
        self._strategy = tf.distribute.get_strategy()
        self._bert = bert
        self._dtype = dtype

    def eval_begin(self):
        return []

    def eval_step(self, iterator):
        def replica_step(batch):
            return trainer.flatten(
                trainer.forward(self._bert, batch, self._dtype)
            )

        sums = self._strategy.run(replica_step, args=(next(iterator),))
        return tf.nest.map_structure(
            lambda value: self._strategy.reduce(
                tf.distribute.ReduceOp.SUM, value, axis=None
            ),
            sums,
        )

    def eval_reduce(self, state, step_outputs):
        # Not read here, so that the device need not wait for the host.
        return [*state, step_outputs]

    def eval_end(self, state):
        # Added up in float64: a split has more predictions than float32
        # can count.
        sums = {
            name: sum(float(step[name]) for step in state) for name in state[0]
        }
        output = trainer.means(sums)
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
