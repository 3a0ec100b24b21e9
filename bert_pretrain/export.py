"""Writes a trained model as a HuggingFace checkpoint.

    python -m bert_pretrain.export --model_dir=model --output_dir=export

The weights are safetensors under PyTorch's names and layout, which every
version of transformers reads.
"""

import dataclasses
import os
import tempfile
from typing import Literal

import tensorflow as tf
import transformers

from bert_pretrain import errors, files, options
from bert_pretrain.checkpoints import trained_model
from bert_pretrain.data import vocabulary
from bert_pretrain.model import bert_model, weights
from bert_pretrain.telemetry import console


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(options.Options):
    model_dir: str = options.option("Folder of the training run.")
    checkpoint: Literal["newest", "best"] = options.option(
        "Which one: best is that of the least held-out loss.", "newest"
    )
    output_dir: str = options.option("Folder to write to; local or gs://.")


def main(config):
    console.quiet_libraries()
    restored = trained_model.restore(config.model_dir, config.checkpoint)
    export(restored, config.output_dir)
    print(
        f"Exported step {restored.step:,} of {config.model_dir} as a "
        f"{restored.bert.config.architectures[0]} to {config.output_dir}:"
    )
    for name in sorted(tf.io.gfile.listdir(config.output_dir)):
        print(f"  {name}")
    print(
        "Load it with transformers.AutoModelForMaskedLM.from_pretrained("
        f"{config.output_dir!r})."
    )


def export(restored, output_dir):
    """Writes weights, config and tokenizer; the config, which says that the
    folder is a model, last.

    Raises:
      UserError: if the folder cannot be written.
    """
    with tempfile.TemporaryDirectory() as aside:
        _save_tokenizer(restored, aside)
        weights.save(restored.bert, f"{aside}/{weights.FILE_NAME}")
        restored.bert.config.save_pretrained(aside)
        names = sorted(
            os.listdir(aside), key=lambda n: (n == bert_model.CONFIG_NAME, n)
        )
        for name in names:
            _copy(f"{aside}/{name}", f"{output_dir}/{name}")


def _save_tokenizer(restored, folder):
    vocab_path = f"{folder}/{vocabulary.FILE_NAME}"
    restored.vocabulary.write(vocab_path)
    is_lower_case = restored.vocabulary.is_lower_case
    transformers.BertTokenizerFast(
        vocab_file=vocab_path,
        do_lower_case=is_lower_case,
        # Its default would follow an uncased model's accents into a cased one.
        strip_accents=is_lower_case,
        model_max_length=restored.bert.config.max_position_embeddings,
    ).save_pretrained(folder)


def _copy(source, target):
    with files.replacing(target) as aside, errors.naming(target):
        tf.io.gfile.copy(source, aside)


if __name__ == "__main__":
    options.run(main, ExportConfig)
