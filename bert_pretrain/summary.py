"""Prints the results of a run, and the folders that hold its files.

python -m bert_pretrain.summary --data_dir=… --model_dir=… --export_dir=…
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any

from bert_pretrain import command_line, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class SummaryConfig(options.Options):
    """The folders of a run."""

    data_dir: str = options.option("Folder of the records.")
    model_dir: str = options.option("Folder of the training run.")
    export_dir: str = options.option("Folder of the exported model.")


def main(config: SummaryConfig) -> None:
    """Prints the summary of a finished run."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain import files
    from bert_pretrain.checkpoints import model_directory
    from bert_pretrain.data import manifests, records, vocabulary
    from bert_pretrain.telemetry import console

    manifest = manifests.read(config.data_dir)
    trained = files.read_json(
        f"{config.model_dir}/{model_directory.TRAIN_RESULTS_NAME}"
    )
    evaluated = files.read_json(
        f"{config.model_dir}/{model_directory.EVALUATE_RESULTS_NAME}"
    )
    train = manifest.splits[records.TRAIN]
    rows = [
        ("vocabulary", f"{config.data_dir}/{vocabulary.FILE_NAME}"),
        ("records", f"{config.data_dir}  ({train.num_examples:,} examples)"),
        ("model", f"{config.model_dir}  (step {trained['step']:,})"),
        ("export", config.export_dir),
        (
            "training time",
            console.format_duration(trained["seconds"])
            + f", {trained['examples_per_second']:,.0f} examples/s",
        ),
        ("peak memory", f"{trained['peak_memory_bytes'] / 1e9:.2f} GB"),
    ]
    if trained["start"]:
        rows.append(
            _metrics_row("validation, step 0", trained["start"], trained)
        )
    rows.append(_metrics_row("validation, end", trained["end"], trained))
    for split, results in evaluated.items():
        rows.append(_metrics_row(f"{split} split", results, results))
    console.print_table("What the run made and reached", rows, sys.stdout)


def _metrics_row(
    name: str, metrics: Mapping[str, float | None], results: Mapping[str, Any]
) -> tuple[str, str]:
    """A row with the loss and the unigram entropy.

    The loss of a model that has learned to read is below this entropy.

    Args:
      name: of the row.
      metrics: of an evaluation.
      results: hold the unigram entropy of the same records.
    """
    from bert_pretrain.model import objectives

    # JSON has null for a number that is not finite.
    metrics = {k: math.nan if v is None else v for k, v in metrics.items()}
    text = (
        f"loss {metrics['masked_lm_loss']:.3f} nats "
        f"(unigram entropy {results['unigram_entropy']:.3f}), "
        f"accuracy {metrics['masked_lm_accuracy']:.1%}"
    )
    for objective in objectives.OBJECTIVES[1:]:
        accuracy = metrics.get(f"{objective.name}_accuracy")
        if accuracy is not None:
            text += f", {objective.title.lower()} {accuracy:.1%}"
    return name, text


if __name__ == "__main__":
    command_line.run(main, SummaryConfig)
