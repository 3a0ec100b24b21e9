"""Fine-tunes a BERT for a task; run again, it resumes.

    python -m bert_pretrain.finetune --task=classification \\
        --init_from=export --train_file=train.tsv --dev_file=dev.tsv \\
        --output_dir=finetuned --seeds=1,2,3

Exit codes are those of bert_pretrain.train.
"""

from bert_pretrain import interruption

if __name__ == "__main__":
    interruption.listen()

# ruff: noqa: E402 (a signal may come while these are imported)
import sys
from collections.abc import Callable
from typing import Any

from bert_pretrain import command_line
from bert_pretrain.finetuning import finetune_config
from bert_pretrain.training import command


def main(config: finetune_config.FinetuneConfig) -> int:
    """Fine-tunes, prints the scores, and returns the exit code."""

    def work(raise_if_asked: Callable[[], None]) -> None:
        # Imported late: --help and a wrong flag do not wait for TensorFlow.
        from bert_pretrain.finetuning import finetuning

        metrics = finetuning.finetune(config, raise_if_asked)
        _print_metrics(config.output_dir, metrics)

    return command.run(work, config.devices.tpu)


def _print_metrics(output_dir: str, metrics: dict[str, Any]) -> None:
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.telemetry import console

    rows = []
    for split, scores in (("dev", metrics), ("test", metrics.get("test", {}))):
        together = scores.get("ensemble", {})
        for name, score in scores.items():
            if not isinstance(score, dict) or "mean" not in score:
                continue
            text = f"{score['mean']:.4f}"
            if score["seeds"][1:]:
                text += f" ± {score['deviation']:.4f}"
            if name in together:
                text += f", all seeds together {together[name]:.4f}"
            rows.append((f"{split} {name}", text))
    rows += [
        ("time", console.format_duration(metrics["seconds"])),
        ("folder", output_dir),
    ]
    console.print_table("Fine-tuning is complete", rows, sys.stdout)


if __name__ == "__main__":
    interruption.survive_closed_console()
    command_line.run(main, finetune_config.FinetuneConfig)
