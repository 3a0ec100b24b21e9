"""One training step on any accelerator that jax finds, compared with PyTorch.

    python benchmarks/lower_step.py --output=FOLDER    # on this machine
    python accelerator_step.py --run=FOLDER            # on one with a GPU

The first command writes the lowered step and a description. The second one
needs this file, that folder of some megabytes, jax and numpy, but neither
TensorFlow nor this project. It draws the weights from the distributions in the
description, and random rows.

ours    that step, compiled by jax; with padded rows of one document each, and
        with packed rows, which are full of documents
torch   PyTorch's BertForMaskedLM on the padded rows, as its users run it:
        compiled, autocast, clipped, fused AdamW. It has two kinds of
        attention; the faster one counts. It is left out if PyTorch or
        transformers is not installed, or does not find the device of jax

The length of a document is drawn uniformly from a quarter of a row to a whole
row. Each system runs in a process of its own. The processes take turns, one
round each, and the medians are printed. An example is a row. MFU counts
the arithmetic of whole rows, including padding, for all systems, as in
`bert_pretrain/telemetry/accelerators.py`. So compare padded with packed rows by
their tokens without padding.
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
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

if typing.TYPE_CHECKING:
    import jax

DESCRIPTION_NAME = "step.json"
_OURS = "ours"
_TORCH = "torch sdpa", "torch eager"
_ANSWER = "answer: "  # start of an answer in a system's output
_START_SECONDS = 600  # limit to start and compile
LEARNING_RATE = 1e-4
_MASK_ID, _FIRST_WORD_ID = 103, 1000

Batch = Mapping[str, np.ndarray]
# Plain values, as lower_step.py writes them to the description.
Rows = Mapping[str, Any]
Program = Mapping[str, Any]
Description = Mapping[str, Any]


def main() -> None:
    """Runs the command."""
    args = _parse()
    if args.serve:
        _serve(args.run, args.serve, args.program, args.steps)
        return
    try:
        _run(args)
    except ChildProcessError as error:
        sys.exit(str(error))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run",
        metavar="FOLDER",
        required=True,
        help="the folder that lower_step.py has written",
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of each system"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=20,
        help="steps per round, each with its own batch",
    )
    parser.add_argument(
        "--peak_tflops",
        type=float,
        help="peak of the device, for MFU; default: known by the device's name",
    )
    # Internal: run one system on one program, in its own process.
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--program", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---------------------------------------------------------- drawing the rows


def draw_batch(rows: Rows, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A batch of random tokens, with the features of `records.parse`.

    Args:
      rows: "rows" in the description of a program.
    """
    shape = rows["num_rows"], rows["seq_length"]
    document_ids, position_ids = _draw_documents(shape, rows["is_packed"], rng)
    is_token = document_ids > 0
    is_first = position_ids == 0
    ids = rng.integers(_FIRST_WORD_ID, rows["vocab_size"], shape) * is_token
    # Each token draws a number. Those with the lowest numbers are masked, 15 %
    # of a row's tokens.
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


def _draw_documents(
    shape: tuple[int, int], is_packed: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The number of each token's document, and the token's position in it.

    Documents are numbered from 1; padding has 0. A packed row is filled with
    documents, and the last one is cut off.
    """
    ids, positions = np.zeros(shape, int), np.zeros(shape, int)
    num_rows, width = shape
    for row in range(num_rows):
        start, number = 0, 1
        while start < width and (is_packed or number == 1):
            length = int(rng.integers(width // 4, width + 1))
            end = min(start + length, width)
            ids[row, start:end] = number
            positions[row, start:end] = np.arange(end - start)
            start, number = end, number + 1
    return ids, positions


def _draw_batches(rows: Rows, num_batches: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [draw_batch(rows, rng) for _ in range(num_batches)]


def _num_tokens(rows: Rows, num_batches: int) -> int:
    """The number of tokens in all batches, without padding."""
    return sum(
        int(batch["attention_mask"].sum())
        for batch in _draw_batches(rows, num_batches)
    )


# ----------------------------------------------------------------- our step


class Step:
    """A lowered step, compiled by jax, with the variables that it updates."""

    def __init__(self, folder: str, name: str) -> None:
        """Compiles the step and draws the variables.

        Args:
          folder: the one that lower_step.py has written.
          name: of the program.

        Raises:
          RuntimeError: if this machine's jax is too old.
        """
        import jax

        if jax.__version_info__ < (0, 5):
            raise RuntimeError(
                f"jax {jax.__version__} cannot read the step; install jax 0.5 "
                "or later on this machine."
            )
        # Some counters have 64 bits.
        jax.config.update("jax_enable_x64", True)
        self.device = jax.devices()[0]
        self._program = read_description(folder)["programs"][name]
        # The step may not use all features of a batch.
        self._features = list(_features(self._program))
        with open(f"{folder}/{name}.stablehlo", "rb") as file:
            self._compiled = _compile(self._program, file.read())
        self._values = tuple(
            jax.device_put(value, self.device)
            for value in draw_variables(self._program).values()
        )

    def __call__(self, batch: "Mapping[str, np.ndarray | jax.Array]") -> None:
        """Starts a step; like all of jax, it does not wait for the device."""
        features = {name: batch[name] for name in self._features}
        self._values = self._compiled(self._values, features)

    def read(self) -> dict[str, np.ndarray]:
        """Waits for all steps, and returns the variables by name."""
        names = [
            self._program["parameters"][i]["variable"]
            for i in self._program["next"]
        ]
        return dict(zip(names, map(np.asarray, self._values), strict=True))

    def wait(self) -> None:
        """Waits for all steps."""
        import jax

        jax.block_until_ready(self._values)

    @property
    def num_bytes(self) -> int | None:
        """The device memory that the compiler has planned, if it is known."""
        plan = self._compiled.memory_analysis()
        if plan is None:
            return None
        return (
            plan.argument_size_in_bytes
            + plan.output_size_in_bytes
            - plan.alias_size_in_bytes
            + plan.temp_size_in_bytes
        )


def read_description(folder: str) -> dict[str, Any]:
    """Reads the description that lower_step.py has written."""
    with open(f"{folder}/{DESCRIPTION_NAME}") as file:
        return json.load(file)


def draw_variables(program: Program) -> dict[int, np.ndarray]:
    """Initial values by the number of the parameter, in the order of the
    results."""
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


def _compile(program: Program, module: bytes) -> "jax.stages.Compiled":
    """Compiles a function of (variables, features) that returns the variables.

    On accelerators, the function reuses the memory of the variables that it
    gets.

    Args:
      module: StableHLO in the portable form of `jax.export`.
    """
    import jax
    import jax.export

    def abstract(described: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(described["shape"], described["dtype"])

    def stand_in(*_):
        return tuple(
            jax.numpy.zeros(result["shape"], result["dtype"])
            for result in program["results"]
        )

    parameters = program["parameters"]
    # jax cannot make a function of a module that other software has lowered.
    # But the module of a function that jax exports for this device can be
    # replaced.
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
    # No memory is reused on CPUs. With reuse, jaxlib 0.7.1 on a CPU without
    # AVX-512 computed one token of the second step wrongly, and gradients
    # differed by 1 %. Without reuse they equal TensorFlow's to 7e-7.
    donated = () if jax.default_backend() == "cpu" else (0,)
    step = jax.jit(update, donate_argnums=donated)
    return step.lower(values, features).compile()


def _features(program: Program) -> dict[str, dict[str, Any]]:
    """The parameters that come from a batch, by the feature's name."""
    return {
        parameter["feature"]: parameter
        for parameter in program["parameters"]
        if "feature" in parameter
    }


# ----------------------------------------- the systems, each in its process


class _Ours:
    """Rounds of our step."""

    def __init__(self, folder: str, name: str, num_batches: int) -> None:
        import jax

        self._step = Step(folder, name)
        rows = read_description(folder)["programs"][name]["rows"]
        self._batches = jax.device_put(
            _draw_batches(rows, num_batches), self._step.device
        )
        self._num_steps = 0

    def run(self, num_steps: int) -> None:
        for batch in self._batches[:num_steps]:
            self._step(batch)
        self._step.wait()
        self._num_steps += num_steps

    def device(self) -> dict[str, str]:
        device = self._step.device
        return {"platform": device.platform, "name": device.device_kind}

    def finish(self) -> dict[str, Any]:
        """Runs a last round, and returns its loss and the bytes of memory.

        Raises:
          RuntimeError: if not all updates were applied.
        """
        before = self._scalars()
        self.run(len(self._batches))
        after = self._scalars()
        if round(after["steps"]) != self._num_steps:
            raise RuntimeError(
                f"only {after['steps']:.0f} of {self._num_steps} updates were "
                "applied; the gradients of the others were not finite."
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

    def _scalars(self) -> dict[str, float]:
        """The scalar variables: counters, and sums of losses."""
        return {
            name.removesuffix(":0"): float(values)
            for name, values in self._step.read().items()
            if not values.shape
        }


class _Torch:
    """Rounds of PyTorch's step."""

    def __init__(
        self, folder: str, name: str, num_batches: int, attention: str
    ) -> None:
        import torch
        import transformers

        description = read_description(folder)
        rows = description["programs"][name]["rows"]
        self._device = torch.device(
            "cuda" if torch.cuda.is_available() else "cpu"
        )
        # The default of XLA for float32.
        torch.set_float32_matmul_precision("high")
        torch.manual_seed(0)
        self._bert = (
            transformers.BertForMaskedLM(
                transformers.BertConfig(
                    **description["bert_config"], attn_implementation=attention
                )
            )
            .to(self._device)  # type: ignore[arg-type]
            .train()
        )
        # Our epsilon. TensorFlow adds it before the bias correction, and so
        # learns slightly less in the first steps.
        self._optimizer = torch.optim.AdamW(
            self._bert.parameters(), lr=LEARNING_RATE, eps=1e-6, fused=True
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

    def run(self, num_steps: int) -> float:
        """Returns the mean loss, and so waits for the device."""
        import torch

        losses = []
        for batch in self._batches[:num_steps]:
            with self._autocast:
                loss = self._forward(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._bert.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def device(self) -> dict[str, str]:
        import torch

        if self._device.type == "cpu":
            return {"platform": "cpu"}
        return {"platform": "gpu", "name": torch.cuda.get_device_name()}

    def finish(self) -> dict[str, Any]:
        """Runs a last round, and returns its loss and the bytes of memory."""
        import torch

        return {
            "loss": self.run(len(self._batches)),
            "planned_bytes": None,
            "peak_bytes": torch.cuda.max_memory_allocated()
            if self._device.type == "cuda"
            else None,
        }


def _for_torch(batch: Batch) -> dict[str, np.ndarray]:
    """HuggingFace's features: labels of all positions, -100 for no label."""
    labels = np.where(
        batch["masked_lm_weights"] > 0, batch["masked_lm_ids"], -100
    )
    dense = np.full(batch["input_ids"].shape, -100)
    # Unused slots have position 0, which is never masked.
    np.put_along_axis(dense, batch["masked_lm_positions"], labels, axis=-1)
    names = "input_ids", "attention_mask", "token_type_ids"
    return {name: batch[name] for name in names} | {"labels": dense}


def _serve(folder: str, system: str, name: str, num_steps: int) -> None:
    """Prepares one system, then runs a round for each line of input."""
    rounds: _Ours | _Torch
    if system == _OURS:
        rounds = _Ours(folder, name, num_steps)
    else:
        attention = system.removeprefix("torch ")
        rounds = _Torch(folder, name, num_steps, attention)
    rounds.run(num_steps)  # Compiles, and creates the optimizer's state.
    _answer(rounds.device())
    for _ in sys.stdin:
        # Another system has used the device since the last round. The first
        # step is a warm-up and is not measured.
        rounds.run(1)
        start = time.perf_counter()
        rounds.run(num_steps)
        _answer(time.perf_counter() - start)
    _answer(rounds.finish())


def _answer(value: Any) -> None:
    print(_ANSWER + json.dumps(value), flush=True)


# ------------------------------------------------------ running the systems


def _run(args: argparse.Namespace) -> None:
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
            child.result = child.ask(None)
        _report(args, description, children)


def _start(
    args: argparse.Namespace,
    description: Description,
    systems: Sequence[str],
    names: Sequence[str],
) -> "list[_Child]":
    """Starts the processes for rows of one length, on the device of jax.

    Args:
      names: of the programs with these rows.
    """
    children: list[_Child] = []
    for system, name in itertools.product(systems, names):
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
                f"PyTorch finds a {platforms[-1]}, jax a {platforms[0]}: no "
                "peer."
            )
            children.pop().ask(None)
    return children


class _Child:
    """The process of a system, for the rows of one program."""

    def __init__(
        self, args: argparse.Namespace, system: str, name: str
    ) -> None:
        """Starts the process and waits until it is ready.

        Raises:
          ChildProcessError: if it ends before that.
        """
        self.system, self.program = system, name
        self.seconds: list[float] = []
        self.result: dict[str, Any] = {}
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
            # Otherwise the first process would take most of the device's
            # memory.
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        # A process blocks when nobody reads its errors.
        self._errors: collections.deque[str] = collections.deque(maxlen=5)
        self._reader = threading.Thread(
            target=lambda: self._errors.extend(self._process.stderr or ()),
            daemon=True,
        )
        self._reader.start()
        timer = threading.Timer(_START_SECONDS, self._process.kill)
        timer.start()
        self.device = self._read_answer()
        timer.cancel()

    def ask(self, line: str | None) -> Any:
        """Sends a line, or for None the end of the input, and waits.

        Returns:
          The answer.

        Raises:
          ChildProcessError: if the process ends without an answer.
        """
        stdin = self._process.stdin
        assert stdin is not None
        if line is None:
            stdin.close()
        else:
            # If the process has ended, reading its answer raises the error.
            with contextlib.suppress(BrokenPipeError):
                stdin.write(line)
                stdin.flush()
        return self._read_answer()

    def _read_answer(self) -> Any:
        # Libraries print other lines, too.
        for line in self._process.stdout or ():
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        self._reader.join()
        reason = "".join(f"\n  {line.rstrip()}" for line in self._errors)
        raise ChildProcessError(f"{self.system}, {self.program}: {reason}")


# ----------------------------------------------------- printing the results


def _report(
    args: argparse.Namespace,
    description: Description,
    children: Sequence[_Child],
) -> None:
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
            else "the peak is unknown, so there is no MFU; give --peak_tflops"
        )
        + "\n\n| rows | system | ms/step | examples/s | tokens/s | without "
        "padding | MFU | memory: peak | planned | loss |\n" + "|---" * 10 + "|"
    )
    for child in children:
        program = description["programs"][child.program]
        print(_line(args, program, peak, child))
    print(flush=True)
    _compare(args, description, children)


def _line(
    args: argparse.Namespace,
    program: Program,
    peak: float | None,
    child: _Child,
) -> str:
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
                child.result["peak_bytes"],
                child.result["planned_bytes"],
            )
        ),
        f"{child.result['loss']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _peak_flops(
    args: argparse.Namespace, description: Description, device_name: str
) -> float | None:
    """FLOP/s of the device, or None if unknown."""
    if args.peak_tflops:
        return 1e12 * args.peak_tflops
    for pattern, flops in description["peaks"].items():
        if re.search(pattern, device_name):
            return flops
    return None


def _compare(
    args: argparse.Namespace,
    description: Description,
    children: Sequence[_Child],
) -> None:
    """Prints our tokens per second relative to the peer's fastest setting."""
    speeds = {}
    for child in children:
        rows = description["programs"][child.program]["rows"]
        num_tokens = _num_tokens(rows, args.steps)
        speeds[child.system, child.program] = [
            num_tokens / seconds for seconds in child.seconds
        ]
    peers = {key: v for key, v in speeds.items() if key[0] != _OURS}
    if not peers:
        return
    fastest = max(peers, key=lambda key: statistics.median(peers[key]))
    for (system, program), values in speeds.items():
        if system == _OURS:
            # The same round of both systems ran at about the same time, under
            # the same load.
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
