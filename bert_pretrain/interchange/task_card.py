"""The README of a fine-tuned model: a model card in HuggingFace's form."""

from collections.abc import Mapping

import transformers

from bert_pretrain.interchange import model_card, task_json
from bert_pretrain.model import adapters

# Tasks of the HuggingFace hub.
_PIPELINES = {
    "classification": "text-classification",
    "regression": "text-classification",
    "tagging": "token-classification",
    "question_answering": "question-answering",
    "embedding": "sentence-similarity",
}
_OF_CLS = """\
```python
import transformers

pipe = transformers.pipeline("{pipeline}", "FOLDER")
```
"""
_OF_OTHER_POOLING = """\
transformers has no class for a classifier of the {pooling} of all states. Its
`BertModel` reads the encoder; `model.safetensors` has the classifier too.

```python
import safetensors.torch, torch, transformers

bert = transformers.BertModel.from_pretrained("FOLDER", add_pooling_layer=False)
tokenizer = transformers.AutoTokenizer.from_pretrained("FOLDER")
head = safetensors.torch.load_file("FOLDER/model.safetensors")
batch = tokenizer(["a text"], return_tensors="pt", padding=True)
states = bert.eval()(**batch).last_hidden_state
mask = batch["attention_mask"][..., None]
pooled = {expression}
logits = pooled @ head["classifier.weight"].T + head["classifier.bias"]
```
"""
_EXPRESSIONS = {
    "mean": "(states * mask).sum(1) / mask.sum(1)",
    "max": "states.masked_fill(mask == 0, -1e9).amax(1)",
}
_OF_SENTENCES = """\
```python
import sentence_transformers

model = sentence_transformers.SentenceTransformer("FOLDER")
embeddings = model.encode(["a text", "another text"])
```
"""
_OF_LORA = """\
This folder has only what was trained. The rest is the base model, as a
HuggingFace folder (of a run: as `bert_pretrain.export` writes it).

```python
import peft, transformers

base = transformers.{architecture}.from_pretrained("{base}"{arguments})
model = peft.PeftModel.from_pretrained(base, "FOLDER").merge_and_unload()
```

Merged, it is a plain model of transformers. That matters for questions: PEFT
0.21 gives its model no `token_type_ids` there.
"""
_OF_BOTTLENECKS = """\
This folder has only what was trained. The rest is the base model `{base}`. Only
`bert_pretrain.predict` computes bottleneck adapters: behind each feed-forward
network, before its dropout, x becomes x + up(activation(down(x))).
"""


def describe(
    task: task_json.Task,
    bert: transformers.TFPreTrainedModel,
    added: adapters.Adapters,
    scores: Mapping[str, float],
) -> str:
    """The text of the card.

    Args:
      task: what the model is for.
      bert: the model.
      added: its adapters.
      scores: the values of its metrics, by name.
    """
    is_sentences = task.kind == "embedding" and not added.variables
    library = "sentence-transformers" if is_sentences else "transformers"
    header = [
        "# Fill in: an identifier of a licence, and the language.",
        "license: unknown",
        f"library_name: {'peft' if added.variables else library}",
        f"pipeline_tag: {_PIPELINES[task.kind]}",
    ]
    rows = [
        ("task", task.kind.replace("_", " ")),
        ("state of a text", task.pooling),
        ("tokens of the longest text", f"{task.max_seq_length:,}"),
        ("parameters", f"{bert.num_parameters():,}"),
        ("the weights began as those of", task.base_model or "none"),
        ("labels", ", ".join(task.labels[:20]) or "none"),
        *(
            (name, str(value))
            for name, value in sorted(task.options.items())
            if value and name.endswith("_column")
        ),
    ]
    if task.options.get("long_texts") == "divide":
        rows.append(("longer texts", "the mean of the answers to their parts"))
    if added.variables:
        rows.append(("adapters", added.config.adapter))
    results = [(name, f"{score:.4f}") for name, score in scores.items()]
    sections = [
        f"# BERT, fine-tuned: {task.kind.replace('_', ' ')}",
        model_card.table(("model", ""), rows),
        "## Results on the development set",
        model_card.table(("metric", "value"), results)
        if results
        else "It was not scored.",
        "## Use",
        _use(task, added),
        "With this project: `python -m bert_pretrain.predict "
        "--model_dir=FOLDER --input_file=… --output_file=…`",
    ]
    return (
        "\n".join(["---", *header, "---", ""])
        + "\n"
        + "\n\n".join(map(str.strip, sections))
        + "\n"
    )


def _use(task: task_json.Task, added: adapters.Adapters) -> str:
    if added.config.adapter == "bottleneck":
        return _OF_BOTTLENECKS.format(base=task.base_model)
    if added.config.adapter == "lora":
        num_labels = 1 if task.kind == "regression" else len(task.labels)
        has_labels = num_labels and task.plain_architecture != "BertModel"
        return _OF_LORA.format(
            architecture=task.plain_architecture,
            base=task.base_model,
            arguments=f", num_labels={num_labels}" if has_labels else "",
        )
    if task.kind == "embedding":
        return _OF_SENTENCES
    if not task.is_stock:
        return _OF_OTHER_POOLING.format(
            pooling=task.pooling, expression=_EXPRESSIONS[task.pooling]
        )
    return _OF_CLS.format(pipeline=_PIPELINES[task.kind])
