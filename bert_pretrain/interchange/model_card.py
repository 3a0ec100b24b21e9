"""The README of an exported model: a model card in HuggingFace's form."""

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from bert_pretrain.checkpoints import trained_model
from bert_pretrain.telemetry import metrics_log

FILE_NAME = "README.md"
_HEADER = """\
---
# Fill in: an identifier of a licence, such as apache-2.0, and the language.
license: unknown
library_name: transformers
pipeline_tag: fill-mask
tags:
- bert
- masked-lm
---
"""
_USE = """\
## Use

```python
import transformers

# With PyTorch:
bert = transformers.{auto}.from_pretrained("FOLDER")
# With TensorFlow:
bert = transformers.TF{auto}.from_pretrained(
    "FOLDER", use_safetensors=False)
tokenizer = transformers.AutoTokenizer.from_pretrained("FOLDER")
```

TensorFlow's classes read `tf_model.h5`: those of transformers 4.57 fail on
safetensors that PyTorch's classes read ("safe_open object is not iterable").
"""
# What a run notes of its datasets (`phases.describe_datasets`), in words.
_DATA = {
    "documents": "documents",
    "examples": "examples",
    "tokens": "tokens",
    "seq_length": "tokens of a row",
    "is_packed": "several documents in a row",
    "masking": "masks",
    "pairing": "sentence pairs",
}
# Names of evaluation results, and what they are.
_RESULTS = {
    "masked_lm_loss": "loss of masked tokens (nats)",
    "masked_lm_perplexity": "perplexity of masked tokens",
    "masked_lm_accuracy": "masked tokens predicted rightly",
    "next_sentence_loss": "loss of sentence pairs (nats)",
    "next_sentence_accuracy": "sentence pairs predicted rightly",
}


def describe(model: trained_model.TrainedModel, log_path: str) -> str:
    """The text of the card.

    Args:
      log_path: of the run's log, which has the held-out losses.
    """
    config = model.bert.config
    name = "".join(config.architectures or ())
    auto = (
        "AutoModelForPreTraining"
        if name == "BertForPreTraining"
        else "AutoModelForMaskedLM"
    )
    vocab = model.vocabulary
    sections = [
        f"# {name}, pretrained for {model.step:,} steps",
        table(
            ("architecture", ""),
            [
                ("layers", f"{config.num_hidden_layers}"),
                ("hidden size", f"{config.hidden_size}"),
                ("attention heads", f"{config.num_attention_heads}"),
                ("parameters", f"{model.bert.num_parameters():,}"),
                ("positions", f"{config.max_position_embeddings:,}"),
                ("positions that were trained", _num_trained(model)),
                ("tokens in the vocabulary", f"{vocab.size:,}"),
                ("rows of the embedding table", f"{config.vocab_size:,}"),
                ("casing", vocab.casing_in_words),
            ],
        ),
        "## Training data\n\n" + _describe_data(model),
        "## Results on held-out documents\n\n"
        + _describe_results(model.step, log_path),
        _USE.format(auto=auto),
    ]
    return _HEADER + "\n" + "\n\n".join(map(str.strip, sections)) + "\n"


def _num_trained(model: trained_model.TrainedModel) -> str:
    num_positions = model.bert.config.max_position_embeddings
    return f"{min(model.num_trained_positions, num_positions):,}"


def _describe_data(model: trained_model.TrainedModel) -> str:
    if not model.datasets:
        return "Unknown: an earlier version of the trainer did not note it."
    init_from = model.train_config["architecture"]["init_from"]
    begin = f"The weights began as those of `{init_from}`.\n\n"
    return (begin if init_from else "") + "\n\n".join(
        table(
            ("dataset", f"of step {dataset['from_step']:,} and later"),
            [
                (words, _value(dataset[name]))
                for name, words in _DATA.items()
                if name in dataset
            ],
        )
        for dataset in model.datasets
    )


def _describe_results(step: int, log_path: str) -> str:
    found = list(_evaluations(step, log_path))
    if not found:
        return "No evaluation of this step is in the run's log."
    return table(
        ("result", "value"),
        [
            (words, f"{found[-1][name]:.4f}")
            for name, words in _RESULTS.items()
            if found[-1].get(name) is not None
        ],
    )


def _evaluations(step: int, log_path: str) -> Iterator[Mapping[str, Any]]:
    if tf.io.gfile.exists(log_path):
        for record in metrics_log.read(log_path):
            if record["kind"] == "eval" and record["step"] == step:
                yield record


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    """A table of Markdown with two columns."""
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)
