"""What a model says of all examples of a file, and how good that is."""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from bert_pretrain.data import labelled_rows
from bert_pretrain.finetuning import learners

Outputs = Mapping[str, np.ndarray]


class OutputCollector:
    """Collects a learner's outputs by the number of the example.

    It compiles batches of the same shape once, so it is worth keeping.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        learner: learners.TaskLearner,
        dtype: tf.DType,
    ) -> None:
        """Takes what computes the outputs."""
        self._strategy = strategy
        self._learner = learner
        self._dtype = dtype

    def collect(
        self,
        batches: tf.distribute.DistributedDataset,
        num_batches: int,
        num_outputs: int,
    ) -> dict[str, np.ndarray]:
        """The outputs for batches: arrays [num_outputs, …], by their names.

        The output of a text that was read in parts is the mean of theirs.
        """
        collected: dict[str, np.ndarray] = {}
        counts = np.zeros(num_outputs, np.int32)
        iterator = iter(batches)
        for _ in range(num_batches):
            numbers, batch_outputs = self._step(next(iterator))
            for number_BP, *values in zip(
                self._local(numbers),
                *map(self._local, batch_outputs.values()),
                strict=True,
            ):
                is_used = number_BP.numpy() >= 0
                used = number_BP.numpy()[is_used]
                np.add.at(counts, used, 1)
                for name, value in zip(batch_outputs, values, strict=True):
                    array = value.numpy()
                    if name not in collected:
                        shape = (num_outputs, *array.shape[2:])
                        collected[name] = np.zeros(shape, array.dtype)
                    np.add.at(collected[name], used, array[is_used])
        for array in collected.values():
            shape = (num_outputs, *[1] * (array.ndim - 1))
            array /= np.maximum(counts, 1).reshape(shape)
        return collected

    def _local(self, values) -> tuple[tf.Tensor, ...]:
        return self._strategy.experimental_local_results(values)

    @tf.function(autograph=False)
    def _step(self, batch):
        return self._strategy.run(self._replica_step, args=(batch,))

    def _replica_step(self, batch):
        return batch["outputs"], self._learner.outputs(batch, self._dtype)


class TaskEvaluator:
    """Scores a learner's outputs for the examples of a file."""

    def __init__(  # noqa: PLR0913 (it depends on all of them)
        self,
        strategy: tf.distribute.Strategy,
        learner: learners.TaskLearner,
        pieces: labelled_rows.Pieces,
        layout: labelled_rows.Layout,
        dtype: tf.DType,
        score: Callable[[Outputs], dict[str, float]] = lambda outputs: {},
    ) -> None:
        """Prepares it.

        Args:
          score: of the outputs for all examples.
        """
        self._collector = OutputCollector(strategy, learner, dtype)
        self._metric = learner.metric
        self._num_outputs = pieces.num_outputs
        self._score = score
        self._batches, self.num_batches = labelled_rows.eval_batches(
            strategy, pieces, layout
        )

    def evaluate(self, num_steps: tf.Tensor) -> dict[str, float]:
        """The scores; NaN for all if an output is not finite.

        Args:
          num_steps: `num_batches`.
        """
        del num_steps
        outputs = self.outputs()
        if not all(np.isfinite(values).all() for values in outputs.values()):
            return {self._metric: float("nan")}
        return self._score(outputs)

    def outputs(self) -> dict[str, np.ndarray]:
        """The learner's outputs: arrays [num_outputs, …], by their names."""
        return self._collector.collect(
            self._batches, self.num_batches, self._num_outputs
        )
