"""One training step beside the peers', on the same rows, in one run.

    python benchmarks/train_speed.py --precision=bfloat16

    ours       bert_pretrain's trainer
    official   tf-models-official's BertPretrainerV2 under its masked-LM task
    hf         TFBertForMaskedLM as HuggingFace's language-modeling-tpu
               example trains it: scores at all positions, Keras fit
    torch      PyTorch's BertForMaskedLM, fused AdamW, autocast

Each runs in a process of its own, which builds its step once and then waits;
the rounds go to the processes in turn, so that whatever else the machine does
hits all alike. The medians are printed, in tokens a second.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from typing import Literal

import numpy as np

from bert_pretrain import options

SYSTEMS = "ours", "official", "hf", "torch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    precision: Literal["float32", "bfloat16"] = options.option(
        "Of the matrix products.", "bfloat16"
    )
    systems: tuple[str, ...] = options.option("Which to run.", SYSTEMS)
    num_layers: int = options.option("Layers.", 4)
    hidden_size: int = options.option("Hidden size; a head is 64 wide.", 256)
    vocab_size: int = options.option("Tokens.", 30522)
    batch_size: int = options.option("Rows in a step.", 32)
    seq_length: int = options.option("S.", 128)
    max_predictions_per_seq: int = options.option("P.", 20)
    rounds: int = options.option("Rounds, in turn.", 5)
    steps: int = options.option("Steps of a round.", 4)
    system: str = options.option(
        "Run this one, as the other processes do; for the program itself.", ""
    )


def main(config):
    if config.system:
        _serve(config)
        return
    children = {name: _start(name) for name in config.systems}
    seconds = {name: [] for name in children}
    for number in range(config.rounds):
        for name, child in children.items():
            seconds[name].append(_ask(child))
        print(
            f"  round {number + 1}: "
            + ", ".join(f"{n} {s[-1]:.2f} s" for n, s in seconds.items()),
            flush=True,
        )
    for child in children.values():
        child.stdin.close()
        child.wait()
    _report(config, seconds)


def _start(name):
    child = subprocess.Popen(
        [sys.executable, *sys.argv, f"--system={name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in child.stdout:  # Libraries print too.
        if line == "ready\n":
            return child
    raise RuntimeError(f"{name} did not start")


def _ask(child):
    child.stdin.write("go\n")
    child.stdin.flush()
    return float(child.stdout.readline())


def _report(config, seconds):
    num_tokens = config.steps * config.batch_size * config.seq_length
    print(
        f"{config.num_layers} layers, hidden {config.hidden_size}, "
        f"{config.batch_size} x {config.seq_length}, "
        f"{config.max_predictions_per_seq} predictions, vocabulary "
        f"{config.vocab_size}, {config.precision}"
    )
    median = {name: statistics.median(s) for name, s in seconds.items()}
    for name, value in median.items():
        print(
            f"  {name:10}{num_tokens / value:10,.0f} tokens/s"
            f"   {1e3 * value / config.steps:8.0f} ms/step"
            f"   x {value / median['ours']:.2f} of our time"
            if "ours" in median
            else f"  {name:10}{num_tokens / value:10,.0f} tokens/s"
        )


def _serve(config):
    """Builds one system's step, then runs a round for each line read."""
    sys.argv = sys.argv[:1]
    rows = _rows(config)
    step = {
        "ours": _our_step,
        "official": _official_step,
        "hf": _hf_step,
        "torch": _torch_step,
    }[config.system](config, rows)
    step(config.steps)  # Compiles, and fills the optimizer's state.
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        step(config.steps)
        print(time.perf_counter() - started, flush=True)


def _rows(config):
    """The features of one batch, as NumPy arrays."""
    rng = np.random.default_rng(0)
    shape = config.batch_size, config.seq_length
    ids = rng.integers(1000, config.vocab_size, shape).astype(np.int32)
    positions = np.sort(
        rng.random(shape).argsort(axis=1)[:, : config.max_predictions_per_seq]
    ).astype(np.int32)
    labels = np.take_along_axis(ids, positions, axis=1)
    np.put_along_axis(ids, positions, 103, axis=1)
    return {
        "input_ids": ids,
        "attention_mask": np.ones(shape, np.int32),
        "token_type_ids": np.zeros(shape, np.int32),
        "masked_lm_positions": positions,
        "masked_lm_ids": labels,
        "masked_lm_weights": np.ones(positions.shape, np.float32),
        "next_sentence_labels": np.zeros(config.batch_size, np.int32),
    }


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
    """Labels [B, S] as HuggingFace takes them: -100 where none is."""
    labels = np.full(rows["input_ids"].shape, -100, np.int64)
    np.put_along_axis(
        labels, rows["masked_lm_positions"], rows["masked_lm_ids"], axis=1
    )
    return labels


_INPUTS = "input_ids", "attention_mask", "token_type_ids"


def _our_step(config, rows):
    import tensorflow as tf

    from bert_pretrain import model, optimizer, schedule, trainer

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = strategy.experimental_distribute_dataset(
        tf.data.Dataset.from_tensors(rows).repeat()
    )
    with strategy.scope():
        bert = model.from_config(_bert_config(config))
        adam = optimizer.build(
            optimizer.OptimizerConfig(),
            schedule.Schedule(schedule.ScheduleConfig(total_steps=100_000)),
            bert.trainable_variables,
        )
        bert_trainer = trainer.Trainer(
            trainer.new_state(bert, adam),
            batches,
            trainer.UpdateConfig(
                global_batch_size=config.batch_size,
                dtype=tf.dtypes.as_dtype(config.precision),
                max_gradient_norm=1.0,
                seed=0,
            ),
        )
    return lambda steps: bert_trainer.train(tf.constant(steps))


def _official_step(config, rows):
    import tensorflow as tf
    import tf_keras
    from official.modeling import optimization
    from official.nlp.configs import bert, encoders
    from official.nlp.tasks import masked_lm

    if config.precision == "bfloat16":
        tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    task = masked_lm.MaskedLMTask(
        masked_lm.MaskedLMConfig(
            model=bert.PretrainerConfig(
                encoder=encoders.EncoderConfig(
                    bert=encoders.BertEncoderConfig(
                        vocab_size=config.vocab_size,
                        hidden_size=config.hidden_size,
                        num_layers=config.num_layers,
                        num_attention_heads=config.hidden_size // 64,
                        intermediate_size=4 * config.hidden_size,
                    )
                )
            )
        )
    )
    bert_model = task.build_model()
    adam = task.create_optimizer(
        optimization.OptimizationConfig(
            {
                "optimizer": {
                    "type": "adamw",
                    "adamw": {
                        "weight_decay_rate": 0.01,
                        "exclude_from_weight_decay": [
                            "LayerNorm",
                            "layer_norm",
                            "bias",
                        ],
                    },
                },
                "learning_rate": {
                    "type": "polynomial",
                    "polynomial": {
                        "initial_learning_rate": 1e-4,
                        "decay_steps": 100_000,
                    },
                },
                "warmup": {"type": "linear", "linear": {"warmup_steps": 10}},
            }
        )
    )
    metrics = task.build_metrics()
    names = {
        "input_ids": "input_word_ids",
        "attention_mask": "input_mask",
        "token_type_ids": "input_type_ids",
    }
    inputs = {
        names.get(name, name): tf.constant(values)
        for name, values in rows.items()
        if name != "next_sentence_labels"
    }

    @tf.function
    def run(steps):
        for _ in tf.range(steps):
            task.train_step(inputs, bert_model, adam, metrics)

    def step(steps):
        run(tf.constant(steps))
        bert_model.weights[0][0, 0].numpy()  # Waits.

    return step


def _hf_step(config, rows):
    import tensorflow as tf
    import tf_keras
    import transformers

    if config.precision == "bfloat16":
        tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    bert = transformers.TFBertForMaskedLM(_bert_config(config))
    adam, _ = transformers.create_optimizer(
        init_lr=1e-4,
        num_train_steps=100_000,
        num_warmup_steps=5000,
        weight_decay_rate=0.01,
    )
    bert.compile(optimizer=adam, metrics=["accuracy"])
    batch = {name: rows[name] for name in _INPUTS}
    batch["labels"] = _dense_labels(rows)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    return lambda steps: bert.fit(dataset, steps_per_epoch=steps, verbose=0)


def _torch_step(config, rows):
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    bert = transformers.BertForMaskedLM(_bert_config(config)).train()
    adam = torch.optim.AdamW(bert.parameters(), lr=1e-4, fused=True)
    batch = {name: torch.tensor(rows[name]).long() for name in _INPUTS}
    batch["labels"] = torch.tensor(_dense_labels(rows))

    def step(steps):
        for _ in range(steps):
            with torch.autocast(
                "cpu", torch.bfloat16, enabled=config.precision == "bfloat16"
            ):
                loss = bert(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(bert.parameters(), 1.0)
            adam.step()
            adam.zero_grad()

    return step


if __name__ == "__main__":
    options.run(main, BenchmarkConfig)
