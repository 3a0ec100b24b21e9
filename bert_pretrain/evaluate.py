"""Evaluates a trained model on held-out records.

python -m bert_pretrain.evaluate --data_dir=… --model_dir=… --split=test
"""

import sys

from bert_pretrain import command_line, interruption
from bert_pretrain.devices import supervision, worker_status
from bert_pretrain.evaluation import evaluation_config


def main(config: evaluation_config.EvaluateConfig) -> int:
    """Evaluates a checkpoint, prints the results, and returns the exit code."""
    return supervision.run(lambda: _evaluate(config), config.devices.tpu)


def _evaluate(config: evaluation_config.EvaluateConfig) -> int:
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.devices import pod
    from bert_pretrain.evaluation import evaluation
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    try:
        results = evaluation.evaluate(config)
    except worker_status.WorkerLost as lost:
        pod.leave(lost)
    except interruption.Interrupted as interrupted:
        return interruption.report(interrupted)
    console.print_table(
        f"{config.model_dir}, step {results.step:,}, on {config.split}",
        [
            (
                name,
                f"{value:,.4f}" if isinstance(value, float) else f"{value:,}",
            )
            for name, value in results.to_dict().items()
        ],
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    command_line.run(main, evaluation_config.EvaluateConfig)
