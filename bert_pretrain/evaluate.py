"""Evaluates a trained model on held-out records.

python -m bert_pretrain.evaluate --data_dir=… --model_dir=… --split=test
"""

import sys

from bert_pretrain import command_line
from bert_pretrain.evaluation import evaluation_config


def main(config: evaluation_config.EvaluateConfig) -> None:
    """Evaluates a checkpoint and prints the results."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.evaluation import evaluation
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    results = evaluation.evaluate(config)
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


if __name__ == "__main__":
    command_line.run(main, evaluation_config.EvaluateConfig)
