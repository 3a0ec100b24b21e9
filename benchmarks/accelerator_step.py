"""One training step on whatever accelerator jax finds, beside PyTorch's.

    python benchmarks/accelerator_step.py --lower=FOLDER    # where we are
    python accelerator_step.py --run=FOLDER                 # where a GPU is

The first command needs this project. It lowers the step that a TPU would be
sent, in its plain form, which every XLA compiler takes, and writes it down as
StableHLO, with a description. The second needs this file and that folder of
some megabytes, jax and numpy, but neither TensorFlow nor this project: weights
are drawn from what the description says of them, and rows at random.

ours    that step, compiled by jax; padded rows, a document each, and packed
        rows, full of documents
torch   PyTorch's BertForMaskedLM on the padded rows, as its users have them:
        compiled, autocast, clipped, fused AdamW; it has two kinds of
        attention, and the faster one counts. It is left out where PyTorch or
        transformers is not installed, or does not find jax's device

A document is as long as drawn evenly from a quarter of the row to the whole.
Each system runs in a process of its own, and the rounds go to the processes in
turn; medians are printed. An example is a row. MFU counts a row's arithmetic
in full, padding too, as `bert_pretrain/flops.py` does, for all systems alike,
so what to compare across padded and packed rows is tokens without padding.
"""

import argparse
import collections
import contextlib
import dataclasses
import importlib.util
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time

import numpy as np

_DESCRIPTION_NAME = "step.json"
_OURS = "ours"
_TORCH = "torch sdpa", "torch eager"
_ANSWER = "answer: "  # begins a line of a system's process
_START_SECONDS = 600  # to start and compile
_LEARNING_RATE = 1e-4
_MASK_ID, _FIRST_WORD_ID = 103, 1000
# What jax calls TPUs, by mfu.py's names.
_JAX_TPUS = {
    "TPU v2": "TPU v2",
    "TPU v3": "TPU v3",
    "TPU v4": "TPU v4",
    "TPU v5e": "TPU v5 lite|TPU v5e",
    "TPU v5p": "TPU v5|TPU v5p",
    "TPU v6e": "TPU v6 lite|TPU v6e",
}


def main():
    args = _parse()
    if args.lower:
        lower(
            args.lower, args.size, args.seq_length, args.tokens, args.precision
        )
    elif args.serve:
        _serve(args.run, args.serve, args.program, args.steps)
    else:
        try:
            _run(args)
        except ChildProcessError as error:
            sys.exit(str(error))


def _parse():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--lower", metavar="FOLDER", help="writes the steps")
    what.add_argument("--run", metavar="FOLDER", help="runs them")
    lowering = parser.add_argument_group("with --lower")
    lowering.add_argument(
        "--size",
        choices=("tiny", "mini", "small", "medium", "base", "large"),
        default="base",
        help="Google's sizes, as for training",
    )
    lowering.add_argument(
        "--seq_length",
        type=int,
        nargs="+",
        default=[128, 512],
        help="of the rows; at most 512",
    )
    lowering.add_argument(
        "--tokens",
        type=int,
        default=16384,
        help="in a step, padding included; fewer for a small device",
    )
    lowering.add_argument(
        "--precision",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="of the matrix products",
    )
    running = parser.add_argument_group("with --run")
    running.add_argument(
        "--rounds", type=int, default=7, help="of each system, in turn"
    )
    running.add_argument(
        "--steps", type=int, default=20, help="of a round, each with its batch"
    )
    running.add_argument(
        "--peak_tflops",
        type=float,
        help="of the device, for MFU; default: by its name, where known",
    )
    # For the program itself: one system's process, for one program.
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--program", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tokens < max(args.seq_length):
        parser.error(
            f"--tokens={args.tokens} is less than a row of "
            f"{max(args.seq_length)}."
        )
    return args


# ------------------------------------------------------------- where we are


def lower(
    folder: str,
    size: str,
    seq_lengths: list[int],
    num_tokens: int,
    precision: str,
) -> None:
    """Writes the steps of all rows, and their description, to a folder.

    Args:
      size: one of `bert_model.SIZES`.
      num_tokens: in a step, padding included.
    """
    import tensorflow as tf

    from bert_pretrain.telemetry import mfu
    from bert_pretrain.tpu import absent_tpu
    from bert_pretrain.training import trainer

    strategy = absent_tpu.AbsentTPUStrategy(1)
    with strategy.scope():
        state = _new_state(size)
    bert_config = state.bert.config
    os.makedirs(folder, exist_ok=True)
    programs = {}
    for seq_length, is_packed in itertools.product(seq_lengths, (False, True)):
        rows = {
            "num_rows": num_tokens // seq_length,
            "seq_length": seq_length,
            "num_predictions": seq_length * 20 // 128,
            "vocab_size": bert_config.vocab_size,
            "is_packed": is_packed,
        }
        bert_trainer = trainer.Trainer(
            strategy,
            state,
            None,
            trainer.UpdateConfig(
                global_batch_size=rows["num_rows"],
                dtype=tf.as_dtype(precision),
                max_gradient_norm=1.0,
                seed=0,
            ),
        )
        name = f"{seq_length}-{'packed' if is_packed else 'padded'}"
        path = f"{folder}/{name}.stablehlo"
        programs[name] = {
            "rows": rows,
            "flops_per_row": mfu.flops_per_example(
                bert_config, seq_length, rows["num_predictions"], False
            ),
            **_lower_step(strategy, bert_trainer, rows, path),
        }
        print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB", flush=True)
    description = {
        "size": size,
        "bert_config": {
            name: getattr(bert_config, name)
            for name in (
                "vocab_size",
                "num_hidden_layers",
                "hidden_size",
                "num_attention_heads",
                "intermediate_size",
            )
        },
        "precision": precision,
        "peaks": _peaks(precision),
        "programs": programs,
    }
    with open(f"{folder}/{_DESCRIPTION_NAME}", "w") as file:
        json.dump(description, file, indent=1)


def _new_state(size):
    import transformers

    from bert_pretrain.model import bert_model
    from bert_pretrain.training import optimizer, schedule, train_state

    num_layers, hidden_size = bert_model.SIZES[size]
    bert = bert_model.from_config(
        transformers.BertConfig(
            num_hidden_layers=num_layers,
            hidden_size=hidden_size,
            num_attention_heads=hidden_size // 64,
            intermediate_size=4 * hidden_size,
            architectures=["BertForMaskedLM"],
        )
    )
    # As the peer has it: it does not change.
    rate = schedule.Schedule(
        schedule.ScheduleConfig(
            total_steps=10**6,
            schedule="constant",
            warmup_steps=0,
            peak_learning_rate=_LEARNING_RATE,
        )
    )
    adam = optimizer.build(
        optimizer.OptimizerConfig(), rate, bert.trainable_variables
    )
    return train_state.new_state(bert, adam)


def _lower_step(strategy, bert_trainer, rows, path):
    """Writes the program to a file, and describes what it takes and gives."""
    import tensorflow as tf
    from jaxlib import xla_client

    from bert_pretrain.model import attention_kernel
    from bert_pretrain.tpu import device_program, stablehlo

    features = {
        name: tf.TensorSpec(values.shape, values.dtype)
        for name, values in draw_batch(rows, np.random.default_rng()).items()
    }
    with attention_kernel.form("plain"):
        program = device_program.of_run(
            strategy, bert_trainer._replica_step, (features,), with_values=True
        )
    with open(path, "wb") as file:
        file.write(stablehlo.portable(program.hlo))
    # The order in which a call's tensors are numbered.
    names = sorted(features)
    parameters, places = [], {}
    for i, source in enumerate(program.parameters):
        match source:
            case device_program.Variable(variable):
                places[id(variable)] = i
                parameters.append(_describe_variable(variable, bert_trainer))
            case device_program.Argument((place,)):
                parameters.append({"feature": names[place]})
            case device_program.Constant((value,)):
                parameters.append({"constant": value.tolist()})
    shapes = xla_client.XlaComputation(program.hlo).program_shape()
    for parameter, shape in zip(
        parameters, shapes.parameter_shapes(), strict=True
    ):
        parameter |= _describe_shape(shape)
    return {
        "parameters": parameters,
        "results": [
            _describe_shape(shape)
            for shape in shapes.result_shape().tuple_shapes()
        ],
        # Of the first results, the parameters that they are in the next step.
        "next": [places[id(variable)] for variable in program.variables],
    }


def _describe_variable(variable, bert_trainer):
    """Its name, and how its initial value is drawn."""
    values = variable.numpy()
    if (values == values.flat[0]).all():
        initial = {"mean": float(values.flat[0]), "deviation": 0.0}
    else:
        deviation = bert_trainer.state.bert.config.initializer_range
        initial = {"mean": 0.0, "deviation": deviation}
    return {"variable": variable.name, **initial}


def _describe_shape(shape):
    return {
        "shape": list(shape.dimensions()),
        "dtype": np.dtype(shape.element_type()).name,
    }


def _peaks(precision):
    """FLOP/s of a device, by a pattern of what jax calls it."""
    from bert_pretrain.telemetry import mfu

    patterns = {kind: kind.pattern for kind in mfu.GPUS} | {
        kind: f"^({_JAX_TPUS[kind.name]})$" for kind in mfu.TPUS
    }
    return {
        pattern: flops / kind.replicas_per_chip
        for kind, pattern in patterns.items()
        if (flops := getattr(kind, precision)) is not None
    }


# ---------------------------------------------------------------- the rows


def draw_batch(rows: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A batch of random tokens, with the features of `records.parse`.

    Args:
      rows: as a program's description has them.
    """
    shape = rows["num_rows"], rows["seq_length"]
    document_ids, position_ids = _draw_documents(shape, rows["is_packed"], rng)
    is_token = document_ids > 0
    is_first = position_ids == 0
    ids = rng.integers(_FIRST_WORD_ID, rows["vocab_size"], shape) * is_token
    # The lowest lots are masked: 15 % of a row's tokens.
    num_slots = rows["num_predictions"]
    lots = np.where(is_token & ~is_first, rng.random(shape), 2)
    places = lots.argsort(axis=-1)[:, :num_slots]
    counts = np.maximum(1, np.rint(0.15 * is_token.sum(axis=-1)))
    is_used = np.arange(num_slots) < counts[:, np.newaxis]
    labels = np.take_along_axis(ids, places, axis=-1) * is_used
    is_masked = np.zeros(shape, bool)
    np.put_along_axis(is_masked, places, is_used, axis=-1)
    batch = {
        "input_ids": np.where(is_masked, _MASK_ID, ids),
        "attention_mask": is_token,
        "token_type_ids": np.zeros(shape),
        "masked_lm_positions": places * is_used,
        "masked_lm_ids": labels,
        "masked_lm_weights": is_used,
        "next_sentence_labels": np.zeros(shape[0]),
    }
    if rows["is_packed"]:
        batch |= {"document_ids": document_ids, "position_ids": position_ids}
    return {
        name: values.astype(
            np.float32 if name == "masked_lm_weights" else np.int32
        )
        for name, values in batch.items()
    }


def _draw_documents(shape, is_packed, rng):
    """Of each token, the number of its document, from 1, and its place there.

    A packed row is filled with documents, the last of which is cut off.
    """
    ids, positions = np.zeros(shape, int), np.zeros(shape, int)
    num_rows, width = shape
    for row in range(num_rows):
        start, number = 0, 1
        while start < width and (is_packed or number == 1):
            length = rng.integers(width // 4, width + 1)
            end = min(start + length, width)
            ids[row, start:end] = number
            positions[row, start:end] = np.arange(end - start)
            start, number = end, number + 1
    return ids, positions


def _draw_batches(rows, num_batches):
    rng = np.random.default_rng(0)
    return [draw_batch(rows, rng) for _ in range(num_batches)]


def _num_tokens(rows, num_batches):
    """Of all the batches, without padding."""
    return sum(
        int(batch["attention_mask"].sum())
        for batch in _draw_batches(rows, num_batches)
    )


# ----------------------------------------------------------------- our step


class Step:
    """A lowered step, compiled by jax, and the variables that it updates."""

    def __init__(self, folder: str, name: str):
        """Compiles it, and draws the variables.

        Args:
          folder: that of `lower`.
          name: of the program.
        """
        import jax

        # There are counters of 64 bits.
        jax.config.update("jax_enable_x64", True)
        self.device = jax.devices()[0]
        self._program = read_description(folder)["programs"][name]
        # It may not need all of a batch.
        self._features = list(_features(self._program))
        with open(f"{folder}/{name}.stablehlo", "rb") as file:
            self._compiled = _compile(self._program, file.read())
        self._values = tuple(
            jax.device_put(value, self.device)
            for value in draw_variables(self._program).values()
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> None:
        """Begins a step; like all of jax, it does not wait for the device."""
        features = {name: batch[name] for name in self._features}
        self._values = self._compiled(self._values, features)

    def read(self) -> dict[str, np.ndarray]:
        """The variables by name, when all steps are done."""
        names = [
            self._program["parameters"][i]["variable"]
            for i in self._program["next"]
        ]
        return dict(zip(names, map(np.asarray, self._values), strict=True))

    def wait(self) -> None:
        import jax

        jax.block_until_ready(self._values)

    @property
    def num_bytes(self) -> int:
        """Of the device's memory, as the compiler has planned it."""
        plan = self._compiled.memory_analysis()
        return (
            plan.argument_size_in_bytes
            + plan.output_size_in_bytes
            - plan.alias_size_in_bytes
            + plan.temp_size_in_bytes
        )


def read_description(folder: str) -> dict:
    with open(f"{folder}/{_DESCRIPTION_NAME}") as file:
        return json.load(file)


def draw_variables(program: dict) -> dict[int, np.ndarray]:
    """Initial values by parameter, in the order of the results."""
    rng = np.random.default_rng(0)
    values = {}
    for i in program["next"]:
        parameter = program["parameters"][i]
        shape, dtype = parameter["shape"], parameter["dtype"]
        mean, deviation = parameter["mean"], parameter["deviation"]
        values[i] = np.full(shape, mean, dtype)
        if deviation:
            values[i] += deviation * rng.standard_normal(shape, np.float32)
    return values


def _compile(program, module):
    """A compiled function of (variables, features), which gives the variables
    and, on accelerators, takes over the memory of those that it is given.

    Args:
      module: StableHLO, as `jax.export` has it in portable form.
    """
    import jax
    import jax.export

    def abstract(described):
        return jax.ShapeDtypeStruct(described["shape"], described["dtype"])

    def stand_in(*_):
        return tuple(
            jax.numpy.zeros(result["shape"], result["dtype"])
            for result in program["results"]
        )

    parameters = program["parameters"]
    # Of a module that others have lowered, jax makes no function; but of one
    # of its own, for this device, it lets the module be replaced.
    exported = dataclasses.replace(
        jax.export.export(jax.jit(stand_in, keep_unused=True))(
            *map(abstract, parameters)
        ),
        mlir_module_serialized=module,
    )
    places = {i: place for place, i in enumerate(program["next"])}

    def update(values, features):
        results = exported.call(
            *(
                values[places[i]]
                if "variable" in parameter
                else features[parameter["feature"]]
                if "feature" in parameter
                else np.asarray(parameter["constant"], parameter["dtype"])
                for i, parameter in enumerate(parameters)
            )
        )
        return results[: len(values)]

    values = tuple(abstract(parameters[i]) for i in program["next"])
    features = {
        name: abstract(parameter)
        for name, parameter in _features(program).items()
    }
    # Not on a CPU: jaxlib 0.7.1, on one without AVX-512, then computed one
    # token of the second step wrongly, and gradients came out 1 % off; without
    # it they are TensorFlow's to 7e-7.
    donated = () if jax.default_backend() == "cpu" else (0,)
    step = jax.jit(update, donate_argnums=donated)
    return step.lower(values, features).compile()


def _features(program):
    """Those parameters that come from a batch, by the feature's name."""
    return {
        parameter["feature"]: parameter
        for parameter in program["parameters"]
        if "feature" in parameter
    }


# -------------------------------------------------------------- the systems


class _Ours:
    """Rounds of our step."""

    def __init__(self, folder, name, num_batches):
        import jax

        self._step = Step(folder, name)
        rows = read_description(folder)["programs"][name]["rows"]
        self._batches = jax.device_put(
            _draw_batches(rows, num_batches), self._step.device
        )
        self._num_steps = 0

    def run(self, num_steps):
        for batch in self._batches[:num_steps]:
            self._step(batch)
        self._step.wait()
        self._num_steps += num_steps

    def device(self):
        device = self._step.device
        return {"platform": device.platform, "name": device.device_kind}

    def finish(self):
        """What is told in the end: loss and bytes of memory, if known."""
        before = self._sums()
        self.run(len(self._batches))
        after = self._sums()
        if round(after["steps"]) != self._num_steps:
            raise RuntimeError(
                f"{after['steps']:.0f} of {self._num_steps} updates applied: "
                "the others had gradients that are not finite."
            )
        loss, count = (
            after[name] - before[name]
            for name in ("masked_lm_loss", "masked_lm_num_predictions")
        )
        memory = self._step.device.memory_stats() or {}
        return {
            "loss": loss / count,
            "planned_bytes": self._step.num_bytes,
            "peak_bytes": memory.get("peak_bytes_in_use"),
        }

    def _sums(self):
        return {
            name.removesuffix(":0"): float(values)
            for name, values in self._step.read().items()
            if not values.shape
        }


class _Torch:
    """Rounds of PyTorch's step."""

    def __init__(self, folder, name, num_batches, attention):
        import torch
        import transformers

        description = read_description(folder)
        rows = description["programs"][name]["rows"]
        self._device = torch.device(
            "cuda" if torch.cuda.is_available() else "cpu"
        )
        # XLA's default for float32 as well.
        torch.set_float32_matmul_precision("high")
        torch.manual_seed(0)
        self._bert = (
            transformers.BertForMaskedLM(
                transformers.BertConfig(
                    **description["bert_config"], attn_implementation=attention
                )
            )
            .to(self._device)
            .train()
        )
        # Our epsilon; TensorFlow adds it before it corrects the bias, and so
        # learns a bit less in the first steps.
        self._adam = torch.optim.AdamW(
            self._bert.parameters(), lr=_LEARNING_RATE, eps=1e-6, fused=True
        )
        self._forward = torch.compile(self._bert)
        self._autocast = torch.autocast(
            self._device.type,
            torch.bfloat16,
            enabled=description["precision"] == "bfloat16",
        )
        self._batches = [
            {
                key: torch.tensor(values, device=self._device).long()
                for key, values in _for_torch(batch).items()
            }
            for batch in _draw_batches(rows, num_batches)
        ]

    def run(self, num_steps):
        import torch

        losses = []
        for batch in self._batches[:num_steps]:
            with self._autocast:
                loss = self._forward(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._bert.parameters(), 1.0)
            self._adam.step()
            self._adam.zero_grad()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())  # Waits.

    def device(self):
        import torch

        if self._device.type == "cpu":
            return {"platform": "cpu"}
        return {"platform": "gpu", "name": torch.cuda.get_device_name()}

    def finish(self):
        import torch

        return {
            "loss": self.run(len(self._batches)),
            "planned_bytes": None,
            "peak_bytes": torch.cuda.max_memory_allocated()
            if self._device.type == "cuda"
            else None,
        }


def _for_torch(batch):
    """Labels of all positions, as HuggingFace takes them: -100 for none."""
    labels = np.where(
        batch["masked_lm_weights"] > 0, batch["masked_lm_ids"], -100
    )
    dense = np.full(batch["input_ids"].shape, -100)
    # Unused slots point at position 0, which is never masked.
    np.put_along_axis(dense, batch["masked_lm_positions"], labels, axis=-1)
    names = "input_ids", "attention_mask", "token_type_ids"
    return {name: batch[name] for name in names} | {"labels": dense}


def _serve(folder, system, name, num_steps):
    """Prepares one system, then runs a round for each line read."""
    if system == _OURS:
        rounds = _Ours(folder, name, num_steps)
    else:
        attention = system.removeprefix("torch ")
        rounds = _Torch(folder, name, num_steps, attention)
    rounds.run(num_steps)  # Compiles, and fills the optimizer's state.
    _tell(rounds.device())
    for _ in sys.stdin:
        rounds.run(1)  # Meanwhile the others had the device.
        started = time.perf_counter()
        rounds.run(num_steps)
        _tell(time.perf_counter() - started)
    _tell(rounds.finish())


def _tell(answer):
    print(_ANSWER + json.dumps(answer), flush=True)


# ------------------------------------------------------------- where a GPU is


def _run(args):
    description = read_description(args.run)
    names = collections.defaultdict(list)
    for name, program in description["programs"].items():
        names[program["rows"]["seq_length"]].append(name)
    systems = [_OURS]
    if all(map(importlib.util.find_spec, ("torch", "transformers"))):
        systems += _TORCH
    else:
        print("PyTorch and transformers are not both installed: no peer.")
    for names_of_length in names.values():
        children = _start(args, description, systems, names_of_length)
        for _ in range(args.rounds):
            for child in children:
                child.seconds.append(child.ask("go\n"))
        for child in children:
            child.last_words = child.ask(None)
        _report(args, description, children)


def _start(args, description, systems, names):
    """The processes for rows of one length, on the device that jax finds."""
    children = []
    for system in systems:
        for name in names:
            is_packed = description["programs"][name]["rows"]["is_packed"]
            if is_packed and system != _OURS:
                continue
            try:
                child = _Child(args, system, name)
            except ChildProcessError as error:
                if system == _OURS:
                    raise
                print(error)
                continue
            children.append(child)
            platforms = [c.device["platform"] for c in children]
            if platforms[-1] != platforms[0]:
                print(
                    f"PyTorch finds a {platforms[-1]}, jax a {platforms[0]}: "
                    "no peer."
                )
                children.pop().ask(None)
    return children


class _Child:
    """A system's process, on the rows of one program."""

    def __init__(self, args, system, name):
        """Starts it, and waits until it is ready.

        Raises:
          ChildProcessError: if it ends before that.
        """
        self.system, self.program = system, name
        self.seconds, self.last_words = [], {}
        self._process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                f"--run={args.run}",
                f"--steps={args.steps}",
                f"--serve={system}",
                f"--program={name}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Else the first one would take most of the device's memory.
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        # What it says is read to the end, lest it wait for a reader.
        self._errors = collections.deque(maxlen=5)
        self._reader = threading.Thread(
            target=lambda: self._errors.extend(self._process.stderr),
            daemon=True,
        )
        self._reader.start()
        timer = threading.Timer(_START_SECONDS, self._process.kill)
        timer.start()
        self.device = self._answer()
        timer.cancel()

    def ask(self, line):
        """Its answer to a line, or to the end of its input: None."""
        if line is None:
            self._process.stdin.close()
        else:
            # If it has ended, the answer says so.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line)
                self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        for line in self._process.stdout:  # Libraries print too.
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        self._reader.join()
        reason = "".join(f"\n  {line.rstrip()}" for line in self._errors)
        raise ChildProcessError(f"{self.system}, {self.program}: {reason}")


def _report(args, description, children):
    name = children[0].device["name"]
    peak = _peak_flops(args, description, name)
    rows = description["programs"][children[0].program]["rows"]
    print(
        f"\n{name}: BERT-{description['size']}, {description['precision']}, "
        f"{rows['num_rows']} x {rows['seq_length']}, "
        f"{rows['num_predictions']} predictions, median of {args.rounds} "
        f"rounds of {args.steps} steps; "
        + (
            f"peak {peak / 1e12:g} TFLOP/s"
            if peak
            else "no peak is known, hence no MFU: --peak_tflops"
        )
        + "\n\n| rows | system | ms/step | examples/s | tokens/s | without "
        "padding | MFU | memory: peak | planned | loss |\n" + "|---" * 10 + "|"
    )
    for child in children:
        program = description["programs"][child.program]
        print(_line(args, program, peak, child))
    print(flush=True)
    _compare(args, description, children)


def _line(args, program, peak, child):
    rows = program["rows"]
    seconds = statistics.median(child.seconds)
    num_examples = args.steps * rows["num_rows"]
    cells = [
        child.program.rpartition("-")[2],
        child.system,
        f"{1e3 * seconds / args.steps:,.1f}",
        f"{num_examples / seconds:,.1f}",
        f"{num_examples * rows['seq_length'] / seconds:,.0f}",
        f"{_num_tokens(rows, args.steps) / seconds:,.0f}",
        f"{num_examples * program['flops_per_row'] / seconds / peak:.1%}"
        if peak
        else "",
        *(
            "" if count is None else f"{count / 1e9:.2f} GB"
            for count in (
                child.last_words["peak_bytes"],
                child.last_words["planned_bytes"],
            )
        ),
        f"{child.last_words['loss']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _peak_flops(args, description, device_name):
    """FLOP/s, or None where nobody says."""
    if args.peak_tflops:
        return 1e12 * args.peak_tflops
    for pattern, flops in description["peaks"].items():
        if re.search(pattern, device_name):
            return flops
    return None


def _compare(args, description, children):
    """Says how many tokens ours computes beside the peer's fastest setting."""
    speeds = {}
    for child in children:
        rows = description["programs"][child.program]["rows"]
        num_tokens = _num_tokens(rows, args.steps)
        # Round by round: neighbours in time share what else happened.
        speeds[child.system, child.program] = [
            num_tokens / seconds for seconds in child.seconds
        ]
    peers = {key: v for key, v in speeds.items() if key[0] != _OURS}
    if not peers:
        return
    fastest = max(peers, key=lambda key: statistics.median(peers[key]))
    for (system, program), values in speeds.items():
        if system == _OURS:
            ratios = [
                ours / theirs
                for ours, theirs in zip(values, peers[fastest], strict=True)
            ]
            print(
                f"ours, {program}: {statistics.median(ratios):.2f} x the "
                f"tokens without padding of {fastest[0]}, {fastest[1]} "
                f"(rounds: {min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
