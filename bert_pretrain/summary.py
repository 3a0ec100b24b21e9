"""Prints what a run made, where it lies, and what it reached.

python -m bert_pretrain.summary --data_dir=… --model_dir=… --export_dir=…
"""

import dataclasses
import sys

from bert_pretrain import files, options
from bert_pretrain.checkpoints import model_directory
from bert_pretrain.data import manifests, records, vocabulary
from bert_pretrain.telemetry import console


@dataclasses.dataclass(frozen=True, kw_only=True)
class SummaryConfig(options.Options):
    data_dir: str = options.option("Folder of the records.")
    model_dir: str = options.option("Folder of the training run.")
    export_dir: str = options.option("Folder of the exported model.")


def main(config):
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
        rows.append(_reached("validation, step 0", trained["start"], trained))
    rows.append(_reached("validation, end", trained["end"], trained))
    for split, numbers in evaluated.items():
        rows.append(_reached(f"{split} split", numbers, numbers))
    console.print_table("What the run made and reached", rows, sys.stdout)


def _reached(name, numbers, entropy_of):
    """A row with the loss beside the entropy that it has to be below."""
    text = (
        f"loss {numbers['masked_lm_loss']:.3f} nats "
        f"(unigram entropy {entropy_of['unigram_entropy']:.3f}), "
        f"accuracy {numbers['masked_lm_accuracy']:.1%}"
    )
    if (accuracy := numbers.get("next_sentence_accuracy")) is not None:
        text += f", next sentence {accuracy:.1%}"
    return name, text


if __name__ == "__main__":
    options.run(main, SummaryConfig)
