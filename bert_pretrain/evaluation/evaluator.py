"""One pass of evaluation over a held-out split."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import orbit
import tensorflow as tf

from bert_pretrain.evaluation import running_sums
from bert_pretrain.model import objectives

_MAX_EXPONENT = 88.0  # e to this power is the largest float32, nearly


class Evaluator(orbit.StandardEvaluator):
    """Gives every prediction of the split the same weight.

    All batches go through one loop inside a `tf.function`, as in training, so
    the device need not wait for the host between two batches.
    """

    def __init__(
        self,
        learner: objectives.Learner,
        batches: tf.distribute.DistributedDataset,
        *,
        dtype: tf.DType,
    ) -> None:
        """Prepares the evaluation; call it in the strategy's scope.

        Args:
          dtype: of the matrix products and hidden states.
        """
        super().__init__(
            batches, orbit.StandardEvaluatorOptions(use_tf_while_loop=True)
        )
        self._strategy = tf.distribute.get_strategy()
        self._learner = learner
        self._dtype = dtype
        self._sums = running_sums.RunningSums(learner.sum_names)

    @tf.function(autograph=False)
    def eval_begin(self) -> None:
        """Sets the sums to zero."""
        self._strategy.run(self._sums.reset)

    @tf.autograph.experimental.do_not_convert
    def eval_step(self, iterator: tf.distribute.DistributedIterator) -> None:
        """One batch, traced into the loop."""
        self._strategy.run(self._replica_step, args=(next(iterator),))

    def _replica_step(self, batch):
        self._sums.add(
            objectives.flatten(self._learner.forward(batch, self._dtype))
        )

    def eval_end(self) -> dict[str, float]:
        """Loss and accuracy of each objective, and the perplexity."""
        output = self._learner.means(self._sums.read())
        # TensorBoard gets it as float32.
        loss = output["masked_lm_loss"]
        output["masked_lm_perplexity"] = (
            math.inf if loss > _MAX_EXPONENT else math.exp(loss)
        )
        return output


def unigram_entropy(
    batches: Iterable[Mapping[str, tf.Tensor]], vocab_size: int
) -> float:
    """The entropy of the frequencies of the held-out labels, in nats.

    It is the loss of a model that knows how often each label occurs, but does
    not look at the text. The loss of a model that reads the text is lower.

    Args:
      batches: on this host, of the features that `records.parse` gives.
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
