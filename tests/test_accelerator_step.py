"""A step is lowered here, and runs where only jax is installed."""

import argparse
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import types
import venv

import numpy as np
import pytest
import tensorflow as tf
import transformers

from bert_pretrain.model import bert_model, config_json, objectives
from bert_pretrain.training import (
    optimizer,
    schedule,
    train_state,
    trainer,
    training_config,
)

pytest.importorskip("jax")

pytestmark = pytest.mark.slow

SCRIPT = (
    pathlib.Path(__file__).parent.parent / "benchmarks" / "accelerator_step.py"
)
sys.path.insert(0, str(SCRIPT.parent))
import accelerator_step  # noqa: E402
import lower_step  # noqa: E402

NUM_ROWS, SEQ_LENGTH = 2, 128
PADDED, PACKED = f"{SEQ_LENGTH}-padded", f"{SEQ_LENGTH}-packed"
# Takes some steps, then five steps on one batch, and prints their losses.
PROGRAM = """
import sys
import numpy as np
import accelerator_step

folder, name, num_batches = sys.argv[1:]
step = accelerator_step.Step(folder, name)
rows = accelerator_step.read_description(folder)["programs"][name]["rows"]
rng = np.random.default_rng(1)
for _ in range(int(num_batches)):
    batch = accelerator_step.draw_batch(rows, rng)
    step(batch)
np.savez(f"{folder}/after.npz", **step.read())
sums = []
for _ in range(5):
    step(batch)
    sums.append(float(step.read()["masked_lm_loss:0"]))
print(*np.diff(sums))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter that has only jax, NumPy and their dependencies."""
    folder = tmp_path_factory.mktemp("machine")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in ("jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy"):
        (path,) = importlib.util.find_spec(name).submodule_search_locations
        for part in pathlib.Path(path), pathlib.Path(f"{path}.libs"):
            if part.exists():
                (site / part.name).symlink_to(part)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    """Steps of a small model in float32.

    A TPU has an attention kernel for rows and heads of these sizes.
    """
    folder = str(tmp_path_factory.mktemp("lowered"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config_json.SIZES, "tiny", (2, 128))
        lower_step.main(
            lower_step.LowerConfig(
                output=folder,
                model_size="tiny",
                seq_length=(SEQ_LENGTH,),
                tokens=NUM_ROWS * SEQ_LENGTH,
                precision="float32",
            )
        )
    return folder


def execute(python, *arguments, text=None, **environment):
    done = subprocess.run(
        [python, *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=SCRIPT.parent,
        env=os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }
        | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


reads_steps = pytest.mark.skipif(
    importlib.metadata.version("jax").startswith("0.4."),
    reason="the benchmark needs jax 0.5 on the machine that it measures",
)


@reads_steps
def test_steps_on_jax_alone_equal_the_trainer_s_steps(python, lowered):
    losses = execute(python, "-c", PROGRAM, lowered, PACKED, "3").split()
    assert float(losses[-1]) < float(losses[0])

    description = accelerator_step.read_description(lowered)
    program = description["programs"][PACKED]
    rng = np.random.default_rng(1)
    batches = [
        accelerator_step.draw_batch(program["rows"], rng) for _ in range(3)
    ]
    before = {
        own_name(program["parameters"][i]["variable"]): values
        for i, values in accelerator_step.draw_variables(program).items()
    }
    bert = trained_here(description["bert_config"], before, batches)
    with np.load(f"{lowered}/after.npz") as file:
        after = {own_name(name): file[name] for name in file}
    assert after["iteration:0"] == after["steps:0"] == 3
    for variable in bert.trainable_variables:
        name = own_name(variable.name)
        np.testing.assert_allclose(
            after[name], variable.numpy(), rtol=0, atol=2e-7, err_msg=name
        )
        # Each step moves a weight by up to 1e-4. Only the bias of a key does
        # not move: it does not change the softmax.
        if not name.endswith("key/bias:0"):
            assert np.abs(after[name] - before[name]).max() > 1e-5, name


def own_name(variable_name):
    """A variable's name without the model's name, which holds a counter."""
    return variable_name.removeprefix(
        re.match(r"(tf_bert_for_masked_lm\w*/)?", variable_name)[0]
    )


def trained_here(bert_config, weights, batches):
    """A model after the trainer's own steps, by TensorFlow on a CPU."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        bert = bert_model.from_config(
            transformers.BertConfig(
                **bert_config, architectures=["BertForMaskedLM"]
            )
        )
        rate = schedule.Schedule(
            training_config.ScheduleConfig(
                total_steps=100, schedule="constant", warmup_steps=0
            )
        )
        adam = optimizer.build(
            training_config.OptimizerConfig(), rate, bert.trainable_variables
        )
        state = train_state.new_state(objectives.Pretraining(bert), adam)
    for variable in bert.trainable_variables:
        variable.assign(weights[own_name(variable.name)])
    stacked = {
        name: np.stack([batch[name] for batch in batches])
        for name in batches[0]
    }
    trainer.Trainer(
        strategy,
        state,
        strategy.experimental_distribute_dataset(
            tf.data.Dataset.from_tensor_slices(stacked)
        ),
        trainer.UpdateConfig(
            global_batch_size=NUM_ROWS,
            dtype=tf.float32,
            max_gradient_norm=1.0,
            seed=0,
        ),
    ).train(tf.constant(len(batches)))
    return bert


@reads_steps
def test_a_run_needs_only_jax_and_numpy(python, lowered):
    output = execute(
        python, str(SCRIPT), f"--run={lowered}", "--rounds=1", "--steps=2"
    )
    assert "PyTorch and transformers are not both installed" in output
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in output.splitlines()
        if "| ours |" in line
    ]
    assert [row[0] for row in rows] == ["padded", "packed"]
    for row in rows:
        milliseconds, examples = (
            float(cell.replace(",", "")) for cell in row[2:4]
        )
        assert examples == pytest.approx(
            1e3 * NUM_ROWS / milliseconds, rel=0.02
        )
        # The peak of a CPU is not known, and jax reports no memory for it.
        assert row[6:8] == ["", ""]
        assert re.fullmatch(r"0\.\d\d GB", row[8])
        assert 5 < float(row[9]) < 11


def test_pytorch_learns_from_the_padded_rows(lowered):
    pytest.importorskip("torch")
    output = execute(
        sys.executable,
        str(SCRIPT),
        f"--run={lowered}",
        "--serve=torch sdpa",
        f"--program={PADDED}",
        "--steps=2",
        text="go\n",
        TORCH_COMPILE_DISABLE="1",
    )
    answers = [
        line.removeprefix("answer: ")
        for line in output.splitlines()
        if line.startswith("answer: ")
    ]
    assert answers[0] == '{"platform": "cpu"}'
    assert float(answers[1]) > 0
    assert '"loss": 10.' in answers[2]


def test_speeds_are_compared_by_tokens_without_padding(lowered, capsys):
    description = accelerator_step.read_description(lowered)
    args = argparse.Namespace(rounds=1, steps=2, peak_tflops=0.001)
    accelerator_step._report(
        args,
        description,
        [
            child("ours", PADDED, 1.0),
            child("ours", PACKED, 1.0),
            child("torch sdpa", PADDED, 4.0),
            child("torch eager", PADDED, 2.0),
        ],
    )
    output = capsys.readouterr().out
    assert f"ours, {PADDED}: 2.00 x" in output
    rng = np.random.default_rng(0)
    rows = description["programs"][PADDED]["rows"]
    num_tokens = sum(
        accelerator_step.draw_batch(rows, rng)["attention_mask"].sum()
        for _ in range(2)
    )
    ratio = 2 * 2 * NUM_ROWS * SEQ_LENGTH / num_tokens
    assert f"ours, {PACKED}: {ratio:.2f} x" in output
    assert "of torch eager" in output and "of torch sdpa" not in output
    # Two steps take a second, and the peak is 1 GFLOP/s.
    mfu = 2 * NUM_ROWS * description["programs"][PADDED]["flops_per_row"] / 1e9
    assert f"| {mfu:.1%} |" in output


def child(system, program, seconds):
    return types.SimpleNamespace(
        system=system,
        program=program,
        seconds=[seconds],
        device={"platform": "gpu", "name": "NVIDIA H100 80GB HBM3"},
        result={"loss": 10.0, "planned_bytes": None, "peak_bytes": 10**9},
    )


@pytest.mark.parametrize(
    "name, teraflops",
    [
        ("NVIDIA H100 80GB HBM3", 494),
        ("NVIDIA A100-SXM4-80GB", 156),
        ("TPU v5 lite", 197),
        ("TPU v3", 61.5),
        ("cpu", None),
    ],
)
def test_devices_are_recognized_by_jax_s_names(lowered, name, teraflops):
    description = accelerator_step.read_description(lowered)
    args = argparse.Namespace(peak_tflops=None)
    peak = accelerator_step._peak_flops(args, description, name)
    assert peak == (None if teraflops is None else 1e12 * teraflops)


def test_drawn_rows_are_full_only_if_packed():
    for is_packed in (False, True):
        rows = {
            "num_rows": 50,
            "seq_length": 64,
            "num_predictions": 10,
            "vocab_size": 2000,
            "is_packed": is_packed,
        }
        batch = accelerator_step.draw_batch(rows, np.random.default_rng(0))
        lengths = batch["attention_mask"].sum(axis=1)
        if is_packed:
            assert (lengths == 64).all()
            starts = batch["position_ids"] == 0
            assert (
                starts.sum(axis=1) == batch["document_ids"].max(axis=1)
            ).all()
        else:
            assert (16 <= lengths).all() and lengths.mean() == pytest.approx(
                40, abs=4
            )
        is_used = batch["masked_lm_weights"] > 0
        counts = np.maximum(1, np.rint(0.15 * lengths))
        assert (is_used.sum(axis=1) == counts).all()
        masked = np.take_along_axis(
            batch["input_ids"], batch["masked_lm_positions"], axis=1
        )
        assert (masked[is_used] == 103).all()
        assert (batch["masked_lm_positions"][is_used] > 0).all()
        assert (batch["masked_lm_ids"][is_used] >= 1000).all()
