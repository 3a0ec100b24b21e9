"""Compares one training step with the peers' steps, on the same text.

    python benchmarks/train_speed.py                     # rows without padding
    python benchmarks/train_speed.py --rows=news         # news, S = 512
    python benchmarks/train_speed.py --profile           # profile of our step

ours       bert_pretrain's trainer
official   tf-models-official's BertPretrainerV2 with its masked-LM task
hf         TFBertForMaskedLM as in HuggingFace's language-modeling-tpu example:
           scores at all positions, Keras fit
torch      PyTorch's BertForMaskedLM, fused AdamW, autocast

All have dropout 0.1, decoupled weight decay and gradients clipped to norm 1.
A peer runs without and with compilation (XLA, torch.compile); its faster
setting counts. Each setting has its own process, which builds the step once
and then waits. In each round the processes take turns, so other load on the
machine affects all of them alike. The benchmark prints medians: all tokens per
second, and tokens per second without padding.

--rows=full: random tokens without padding. --rows=news: rows for the peers
hold one document and padding, as the peers' builders make them; our rows are
packed. All settings have the same number of rows in a step.
"""

import collections
import dataclasses
import glob
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Literal

import numpy as np

from bert_pretrain import command_line, options

SETTINGS = (
    "ours",
    "official",
    "official+xla",
    "hf",
    "hf+xla",
    "torch",
    "torch+compile",
)
_PRECISIONS = "bfloat16", "float32"
# Time limit for the start of a process, with compilation.
_START_SECONDS = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    precision: tuple[str, ...] = options.option(
        "Precisions of the matrix products.", _PRECISIONS
    )
    settings: tuple[str, ...] = options.option("Settings to run.", SETTINGS)
    rows: Literal["full", "news"] = options.option(
        "Random rows without padding, or documents.", "full"
    )
    input: str = options.option(
        "News, one document on each line; default: the embedded sample.", ""
    )
    vocab_file: str = options.option(
        "Vocabulary of the news; default: 8,000 tokens, learned from the news.",
        "",
    )
    num_layers: int = options.option("Layers.", 4, at_least=1)
    hidden_size: int = options.option(
        "Hidden size; each head has 64.", 256, at_least=64
    )
    vocab_size: int = options.option(
        "Rows of the embedding table.", 30522, at_least=1001
    )
    batch_size: int = options.option(
        "Rows in a step; 0: rows for 4,096 tokens, with padding.", 0, at_least=0
    )
    seq_length: int = options.option(
        "S; 0: 128, or 512 for news.", 0, at_least=0, at_most=512
    )
    max_predictions_per_seq: int = options.option(
        "P; 0: 15.6 % of S.", 0, at_least=0
    )
    rounds: int = options.option("Number of rounds.", 5, at_least=1)
    steps: int = options.option(
        "Steps in a round, each with its own batch.", 4, at_least=1
    )
    profile: bool = options.option(
        "Print the operations of our step by their times instead.", False
    )
    serve: str = options.option(
        "For internal use: run this setting on --serve_rows.", ""
    )
    serve_rows: str = options.option("File of rows for --serve.", "")
    serve_precision: str = options.option("Precision for --serve.", "")

    @property
    def width(self):
        return self.seq_length or {"full": 128, "news": 512}[self.rows]

    @property
    def num_predictions(self):
        return self.max_predictions_per_seq or self.width * 20 // 128

    @property
    def num_rows(self):
        return self.batch_size or 4096 // self.width


def main(config: BenchmarkConfig) -> None:
    if config.serve:
        _serve(config)
        return
    with tempfile.TemporaryDirectory() as folder:
        num_tokens = {}
        for name, rows in _rows(config, folder).items():
            np.savez(f"{folder}/{name}.npz", **rows)
            num_tokens[name] = int(rows["attention_mask"].sum())
        if config.profile:
            _profile(config, f"{folder}/ours.npz")
            return
        for precision in config.precision:
            _compare(config, precision, folder, num_tokens)


def _compare(config, precision, folder, num_tokens):
    children = {
        name: child
        for name in config.settings
        if (child := _start(name, precision, folder))
    }
    seconds: dict[str, list[float]] = {name: [] for name in children}
    for _ in range(config.rounds):
        for name, child in children.items():
            seconds[name].append(_ask(child))
    for child in children.values():
        child.stdin.close()
        child.wait()
    _report(config, precision, seconds, num_tokens)


def _rows_of(setting):
    return "ours" if setting == "ours" else "theirs"


def _start(name, precision, folder):
    child = subprocess.Popen(
        [
            sys.executable,
            *sys.argv,
            f"--serve={name}",
            f"--serve_rows={folder}/{_rows_of(name)}.npz",
            f"--serve_precision={precision}",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # A full pipe would block the child, so a thread reads all of it.
    lines: collections.deque[str] = collections.deque(maxlen=5)
    threading.Thread(
        target=lambda: lines.extend(child.stderr or ()), daemon=True
    ).start()
    timer = threading.Timer(_START_SECONDS, child.kill)
    timer.start()
    for line in child.stdout or ():  # Libraries print other lines.
        if line == "ready\n":
            timer.cancel()
            return child
    print(f"{name} did not start:", *lines, sep="\n  ", flush=True)
    return None


def _ask(child):
    child.stdin.write("go\n")
    child.stdin.flush()
    return float(child.stdout.readline())


def _report(config, precision, seconds, num_tokens):
    print(
        f"\n{precision}, {config.rows} rows: {config.num_layers} layers, "
        f"hidden {config.hidden_size}, {config.num_rows} x {config.width}, "
        f"{config.num_predictions} predictions, vocabulary "
        f"{config.vocab_size}; median of {config.rounds} rounds of "
        f"{config.steps} steps\n"
        f"{'':16}{'ms/step':>8}{'tokens/s':>10}{'no padding':>13}  ratios"
    )
    all_tokens = config.steps * config.num_rows * config.width
    speeds, ratios = {}, {}
    for name, values in seconds.items():
        median = statistics.median(values)
        speeds[name] = num_tokens[_rows_of(name)] / median
        line = (
            f"  {name:14}{1e3 * median / config.steps:8,.0f}"
            f"{all_tokens / median:10,.0f}{speeds[name]:13,.0f}"
        )
        if name != "ours" and "ours" in speeds:
            ratios[name] = speeds["ours"] / speeds[name]
            # Steps of the same round had the same other load on the machine.
            round_ratios = [
                speeds["ours"]
                / speeds[name]
                * (theirs / median)
                / (ours / statistics.median(seconds["ours"]))
                for ours, theirs in zip(seconds["ours"], values, strict=True)
            ]
            line += (
                f"  ours is {ratios[name]:.2f} x as fast "
                f"(rounds: {min(round_ratios):.2f} to "
                f"{max(round_ratios):.2f})"
            )
        print(line, flush=True)
    if ratios:
        fastest = min(ratios, key=lambda name: ratios[name])
        print(
            f"Against the fastest peer ({fastest}): {ratios[fastest]:.2f} x "
            "the tokens without padding.",
            flush=True,
        )


def _profile(config, path):
    """Prints the operations of our step by the sum of their times.

    Operations run in parallel, so the sum exceeds the time of the step.
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for precision in config.precision:
        step = _our_step(config, precision, _read_rows(path))
        step(config.steps)
        with tempfile.TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                step(config.steps)
            (trace,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
            space = xplane_pb2.XSpace()
            with open(trace, "rb") as file:
                space.ParseFromString(file.read())
        seconds: collections.Counter[str] = collections.Counter()
        counts: collections.Counter[str] = collections.Counter()
        for plane in space.planes:
            for event in itertools.chain(
                *(line.events for line in plane.lines)
            ):
                name = plane.event_metadata[event.metadata_id].name
                kind = _kind(name)
                if kind:
                    seconds[kind] += event.duration_ps / 1e12
                    counts[kind] += 1
        total = sum(seconds.values())
        print(f"\n{precision}, {config.rows} rows: ms a step, share, count")
        for kind, value in seconds.most_common(20):
            print(
                f"  {kind:36}{1e3 * value / config.steps:8.1f}"
                f"{value / total:8.1%}{counts[kind] / config.steps:8.0f}"
            )


def _kind(event_name):
    """The kind of operation of an event in a trace; None for other events."""
    if event_name == "ThunkExecutor::Execute":
        return "compiled chains (fused_operations.py)"
    name, _, kind = event_name.rpartition(":")
    is_operation = name and kind.isidentifier() and "::" not in event_name
    if not is_operation or name.startswith("EagerLocalExecute"):
        return None
    return kind


def _serve(config):
    """Builds the step of one setting, then runs a round for each input line."""
    sys.argv = sys.argv[:1]
    system, _, compiled = config.serve.partition("+")
    rows = _read_rows(config.serve_rows)
    precision = config.serve_precision
    if system == "ours":
        step = _our_step(config, precision, rows)
    else:
        step = {
            "official": _official_step,
            "hf": _hf_step,
            "torch": _torch_step,
        }[system](config, precision, rows, bool(compiled))
    step(config.steps)  # Compiles, and makes the optimizer's state.
    print("ready", flush=True)
    for _ in sys.stdin:
        step(1)  # Fills the processor's caches after other processes.
        started = time.perf_counter()
        step(config.steps)
        print(time.perf_counter() - started, flush=True)


def _rows(config, folder):
    """Makes the features of the batches in a round, [steps, rows, ...] each.

    Returns:
      The features by name, for "ours" and for "theirs".
    """
    if config.rows == "full":
        rows = _random_rows(config)
        return {"ours": rows, "theirs": rows}
    news, vocab_file = _news(config, folder)
    return {
        "ours": _build_rows(config, folder, news, vocab_file, True),
        "theirs": _build_rows(config, folder, news, vocab_file, False),
    }


def _random_rows(config):
    rng = np.random.default_rng(0)
    shape = config.steps, config.num_rows, config.width
    ids = rng.integers(1000, config.vocab_size, shape).astype(np.int32)
    positions = np.sort(
        rng.random(shape).argsort(axis=-1)[..., : config.num_predictions]
    ).astype(np.int32)
    labels = np.take_along_axis(ids, positions, axis=-1)
    np.put_along_axis(ids, positions, 103, axis=-1)
    return {
        "input_ids": ids,
        "attention_mask": np.ones(shape, np.int32),
        "token_type_ids": np.zeros(shape, np.int32),
        "masked_lm_positions": positions,
        "masked_lm_ids": labels,
        "masked_lm_weights": np.ones(positions.shape, np.float32),
        "next_sentence_labels": np.zeros(shape[:2], np.int32),
    }


def _news(config, folder):
    """Returns the paths of the news, a document a line, and the vocabulary."""
    news, vocab_file = config.input, config.vocab_file
    if not news:
        from tfrecord_builders.sources import sample

        sample.fetch(f"{folder}/sample")
        news = f"{folder}/sample/lee-news.txt"
    if not vocab_file:
        vocab_file = f"{folder}/vocab.txt"
        _run_main(
            "learn_vocabulary",
            *("--source=text", "--text_layout=line", f"--input={news}"),
            *("--vocab_size=8000", f"--output_file={vocab_file}"),
        )
    return news, vocab_file


def _build_rows(config, folder, news, vocab_file, packing):  # noqa: PLR0913
    from bert_pretrain.data import input_pipeline, manifests, records

    data_dir = f"{folder}/{'packed' if packing else 'padded'}"
    _run_main(
        "build",
        *("--source=text", "--text_layout=line", f"--input={news}"),
        *("--eval_fraction=0", "--test_fraction=0", "--num_shards=1"),
        f"--vocab_file={vocab_file}",
        f"--output_dir={data_dir}",
        f"--seq_length={config.width}",
        f"--max_predictions_per_seq={config.num_predictions}",
        f"--packing={packing}",
    )
    manifest = manifests.read(data_dir)
    batches = list(
        input_pipeline.host_batches(data_dir, manifest, records.TRAIN)
    )
    num_rows = config.steps * config.num_rows
    num_built = manifest.splits[records.TRAIN].num_examples
    # The rows are shuffled. If there are too few, they are repeated.
    indexes = np.arange(num_rows) % num_built
    return {
        name: np.concatenate([batch[name] for batch in batches])[
            indexes
        ].reshape(config.steps, config.num_rows, *batches[0][name].shape[1:])
        for name in batches[0]
    }


def _run_main(name, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", f"tfrecord_builders.{name}", *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def _read_rows(path):
    with np.load(path) as file:
        return dict(file)


def _bert_config(config):
    import transformers

    return transformers.BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.hidden_size // 64,
        intermediate_size=4 * config.hidden_size,
        architectures=["BertForMaskedLM"],
    )


def _dense_labels(rows):
    """Labels [..., S] for HuggingFace: -100 without a prediction."""
    ids = np.where(rows["masked_lm_weights"] > 0, rows["masked_lm_ids"], -100)
    labels = np.full(rows["input_ids"].shape, -100, np.int64)
    # Unused slots have position 0, which is never masked.
    np.put_along_axis(labels, rows["masked_lm_positions"], ids, axis=-1)
    return labels


_INPUTS = "input_ids", "attention_mask", "token_type_ids"


def _our_step(config, precision, rows):
    import tensorflow as tf

    from bert_pretrain.model import bert_model, objectives
    from bert_pretrain.training import (
        optimizer,
        schedule,
        train_state,
        trainer,
        training_config,
    )

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = strategy.experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices(rows).repeat()
    )
    with strategy.scope():
        bert = bert_model.from_config(_bert_config(config))
        adam = optimizer.build(
            training_config.OptimizerConfig(),
            schedule.Schedule(
                training_config.ScheduleConfig(total_steps=100_000)
            ),
            bert.trainable_variables,
        )
        state = train_state.new_state(objectives.Pretraining(bert), adam)
    bert_trainer = trainer.Trainer(
        strategy,
        state,
        batches,
        trainer.UpdateConfig(
            global_batch_size=config.num_rows,
            dtype=tf.as_dtype(precision),
            max_gradient_norm=1.0,
            seed=0,
        ),
    )
    return lambda steps: bert_trainer.train(tf.constant(steps))


def _official_step(config, precision, rows, compiled):
    import tensorflow as tf

    peer = _keras_peer("official", config, precision)
    names = {
        "input_ids": "input_word_ids",
        "attention_mask": "input_mask",
        "token_type_ids": "input_type_ids",
    }
    batches = tf.data.Dataset.from_tensor_slices(
        {
            names.get(name, name): values
            for name, values in rows.items()
            if name != "next_sentence_labels"
        }
    )
    train_step = tf.function(peer.train_step, jit_compile=compiled)

    @tf.function
    def run(iterator, steps):
        for _ in tf.range(steps):
            train_step(next(iterator))

    iterator = iter(batches.repeat().prefetch(2))

    def step(steps):
        run(iterator, tf.constant(steps))
        peer.model.weights[0][0, 0].numpy()  # Waits for the device.

    return step


def _hf_step(config, precision, rows, compiled):
    import tensorflow as tf

    peer = _keras_peer("huggingface", config, precision)
    peer.model.compile(
        optimizer=peer.optimizer, metrics=["accuracy"], jit_compile=compiled
    )
    batches = {name: rows[name] for name in _INPUTS}
    batches["labels"] = _dense_labels(rows)
    dataset = tf.data.Dataset.from_tensor_slices(batches).repeat()
    return lambda steps: peer.model.fit(
        dataset, steps_per_epoch=steps, verbose=0
    )


def _keras_peer(name, config, precision):
    import tf_keras

    from bert_pretrain.compilation import peers

    if precision == "bfloat16":
        tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    return peers.build(name, _bert_config(config))


def _torch_step(config, precision, rows, compiled):
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    bert = transformers.BertForMaskedLM(_bert_config(config)).train()
    adam = torch.optim.AdamW(bert.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(bert) if compiled else bert
    batches = {name: torch.tensor(rows[name]).long() for name in _INPUTS}
    batches["labels"] = torch.tensor(_dense_labels(rows))

    def step(steps):
        for i in range(steps):
            batch = {name: values[i] for name, values in batches.items()}
            with torch.autocast(
                "cpu", torch.bfloat16, enabled=precision == "bfloat16"
            ):
                loss = forward(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(bert.parameters(), 1.0)
            adam.step()
            adam.zero_grad()

    return step


if __name__ == "__main__":
    # A peer is a PyTorch model, which transformers has only so.
    os.environ["USE_TORCH"] = "AUTO"
    command_line.run(main, BenchmarkConfig)
