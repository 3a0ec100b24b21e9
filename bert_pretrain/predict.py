"""Lets a fine-tuned model label a file of texts.

    python -m bert_pretrain.predict --model_dir=finetuned \\
        --input_file=texts.txt --output_file=predictions.jsonl
"""

from bert_pretrain import command_line
from bert_pretrain.finetuning import predict_config


def main(config: predict_config.PredictConfig) -> None:
    """Writes the predictions and says how many."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.finetuning import prediction
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    watch = console.Stopwatch()
    num_examples = prediction.predict(config)
    print(
        f"{num_examples:,} examples in "
        f"{console.format_duration(watch.seconds)}: {config.output_file}"
    )


if __name__ == "__main__":
    command_line.run(main, predict_config.PredictConfig)
