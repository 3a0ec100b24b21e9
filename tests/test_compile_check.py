"""compile_check: its numbers, its advice and its refusals."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from bert_pretrain import compile_check, errors
from bert_pretrain.assessment import check_config, checking, findings
from bert_pretrain.checkpoints import checkpoint_config
from bert_pretrain.compilation import compiler, isolation, slices, training_step
from bert_pretrain.devices import distribution_config
from bert_pretrain.model import config_json, model_config
from bert_pretrain.pretraining import blueprint, pretraining_config
from bert_pretrain.telemetry import accelerators
from bert_pretrain.training import training_config

needs_compiler = pytest.mark.skipif(
    not compiler.is_installed(), reason="needs jax and libtpu"
)
COMPILED = compiler.Compiled(
    flops=4e9,
    bytes_accessed=3e9,
    temporary_bytes=1_000_000,
    argument_bytes=2_000_000,
    output_bytes=1_900_000,
    alias_bytes=1_800_000,
    code_bytes=300_000,
    num_all_reduces=2,
    num_other_collectives=0,
    compile_seconds=1.5,
    text="ENTRY %main (a: f32[8]) -> f32[8] {\n"
    "  ROOT %a = f32[8]{0:T(128)} parameter(0)\n}\n",
)


@pytest.fixture
def make_check(tmp_path):
    """A check of one small layer: `make_check(rows={"seq_length": 32})`."""
    path = tmp_path / "bert.json"
    path.write_text(
        json.dumps(
            {
                "hidden_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 256,
                "max_position_embeddings": 64,
            }
        )
    )

    def make(rows=None, training=None, **values):
        return check_config.CheckConfig(
            **{
                "accelerator_type": "v5litepod-8",
                "rows": check_config.RowsConfig(
                    **{"vocab_size": 100, **(rows or {})}
                ),
                "training": pretraining_config.TrainingConfig(
                    **{
                        "data_dir": "",
                        "architecture": model_config.ModelConfig(
                            bert_config=str(path)
                        ),
                        "schedule": training_config.ScheduleConfig(
                            total_steps=3600
                        ),
                        "saving": checkpoint_config.CheckpointConfig(
                            model_dir=""
                        ),
                        "devices": distribution_config.DistributionConfig(
                            precision="bfloat16"
                        ),
                        **(training or {}),
                    }
                ),
                **values,
            }
        )

    return make


@pytest.fixture
def no_compiler(monkeypatch):
    """Stands in for the compiler.

    Has the calls so far, and the answers to give instead of `COMPILED`.
    """
    calls = []

    def call(function, *args, title, environment=None):
        calls.append((function, args, title))
        if function is compiler._compile:
            answer = answers.pop(0) if answers else COMPILED
            if isinstance(answer, Exception):
                raise answer
            return answer
        return training_step.Step(b"", "a model", 1_000_000, 2_000_000, 5e9)

    answers = []
    monkeypatch.setattr(isolation, "call", call)
    monkeypatch.setattr(compiler, "is_installed", lambda: True)
    return calls, answers


def printed(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "asked, in_file, expected",
    [(None, None, 30522), (None, 64, 64), (60, 64, 60), (200, None, 200)],
)
def test_the_vocabulary_is_as_large_as_asked_or_as_the_architecture_says(
    make_check, tmp_path, asked, in_file, expected
):
    config = make_check(rows={"seq_length": 32, "vocab_size": asked})
    path = config.training.architecture.bert_config
    if in_file:
        fields = json.loads(pathlib.Path(path).read_text())
        pathlib.Path(path).write_text(
            json.dumps(fields | {"vocab_size": in_file})
        )
    (phase,) = checking._plan(
        config, config.training, slices.find(config.accelerator_type)
    )
    assert phase.manifest.vocab_size == expected


@pytest.mark.slow
@needs_compiler
def test_a_run_s_step_is_compiled_for_one_replica_of_the_slice(
    make_check, make_dataset, capsys
):
    data_dir = make_dataset(vocab_size=60)
    config = make_check(
        training={"data_dir": data_dir, "global_batch_size": 64}, json=True
    )
    assert compile_check.main(config) == 0
    found = printed(capsys)
    assert found["accelerator_type"] == "v5litepod-8"
    assert found["fits"] is True
    assert (found["num_chips"], found["rows_per_replica"]) == (8, 8)
    assert (found["seq_length"], found["max_predictions_per_seq"]) == (16, 4)
    (plan,) = blueprint.plan(config.training)
    bert_config = config_json.architecture(
        config.training.architecture, plan.manifest
    )
    assert found["useful_flops"] == 8 * accelerators.flops_per_example(
        bert_config, 16, 4, False
    )
    # The compiler counts more than products, but leaves out what no loss needs.
    assert 0.5 < found["flops"] / found["useful_flops"] < 2
    # Two moments for each variable; arguments are in tiles.
    assert found["optimizer_bytes"] == pytest.approx(
        2 * found["variable_bytes"], rel=0.01
    )
    state_bytes = found["variable_bytes"] + found["optimizer_bytes"]
    assert state_bytes < found["argument_bytes"] < 1.5 * state_bytes
    assert found["num_all_reduces"] >= 1
    # Each gradient is summed once, and little else.
    assert found["all_reduce_bytes"] == pytest.approx(
        found["variable_bytes"], rel=0.2
    )
    assert found["alias_bytes"] > 0.9 * found["output_bytes"]
    for name in (
        "bytes_accessed",
        "main_memory_bytes",
        "code_bytes",
        "compile_seconds",
        "hours_at_roofline",
    ):
        assert found[name] > 0
    assert found["temporary_bytes"] >= 0
    assert found["cost_at_roofline"] is None


def test_a_step_that_does_not_fit_comes_with_advice(
    make_check, no_compiler, capsys
):
    _, answers = no_compiler
    answers.append(compiler.DoesNotFit(40 * 10**9, 16 * 10**9))
    config = make_check(
        rows={"seq_length": 32}, per_replica_batch_size=64, json=True
    )
    assert compile_check.main(config) == 3
    found = printed(capsys)
    assert found["fits"] is False
    assert found["needed_bytes"] == 40 * 10**9
    assert found["flops"] is None
    answers.append(compiler.DoesNotFit(40 * 10**9, 16 * 10**9))
    assert compile_check.main(dataclasses.replace(config, json=False)) == 3
    text = capsys.readouterr().out
    assert "DOES NOT FIT" in text
    assert "--per_replica_batch_size=27 (about the largest that fits)" in text
    assert "--accumulation_steps=4, or --recompute=true" in text


def test_hours_and_cost_are_of_all_steps(make_check, no_compiler, capsys):
    config = make_check(
        rows={"seq_length": 32},
        per_replica_batch_size=8,
        price_per_chip_hour=2.0,
        json=True,
    )
    assert compile_check.main(config) == 0
    found = printed(capsys)
    # The compiled step moves nothing in main memory, and sums nothing.
    assert found["roofline_seconds"] == pytest.approx(4e9 / 197e12)
    assert found["hours_at_roofline"] == pytest.approx(4e9 / 197e12)
    assert found["hours_at_usual_share"] == pytest.approx(5e9 / 0.4 / 197e12)
    assert found["cost_at_roofline"] == pytest.approx(2 * 8 * 4e9 / 197e12)
    assert found["needed_bytes"] == 2_000_000 + 1_000_000 + 100_000 + 300_000
    compile_check.main(dataclasses.replace(config, json=False))
    text = capsys.readouterr().out
    assert "8 rows of 32 tokens, 20 predictions each, on a chip" in text
    assert "The bound assumes" in text


def test_each_shape_of_rows_in_the_phases_is_compiled(
    make_check, make_dataset, tmp_path, no_compiler, capsys
):
    calls, _ = no_compiler
    path = tmp_path / "phases.yaml"
    path.write_text(
        "- from_step: 1200\n  peak_learning_rate: 1e-5\n"
        "- from_step: 2400\n"
        f"  data_dir: {make_dataset('long', seq_length=24)}\n"
        "  global_batch_size: 32\n"
    )
    config = make_check(
        training={
            "data_dir": make_dataset("short"),
            "phases": str(path),
            "global_batch_size": 64,
        },
        json=True,
    )
    assert compile_check.main(config) == 0
    found = printed(capsys)
    assert [
        (s["rows_per_replica"], s["seq_length"], s["num_steps"])
        for s in found["steps"]
    ] == [(8, 16, 2400), (4, 24, 1200)]
    assert found["hours_at_roofline"] == pytest.approx(4e9 / 197e12)
    assert len(calls) == 4  # each is traced and compiled


def test_the_largest_batch_is_searched_with_and_without_recomputation(
    make_check, no_compiler, monkeypatch, capsys
):
    calls, answers = no_compiler
    fixed = COMPILED.argument_bytes + COMPILED.code_bytes + 100_000
    available = 16 * 2**30 - 258 * 2**20

    def compiled(num_rows, recompute):
        return dataclasses.replace(
            COMPILED,
            temporary_bytes=num_rows * (50 if recompute else 80) * 2**20,
        )

    def call(function, *args, title, environment=None):
        if function is training_step.lower:
            config, _, rows, _ = args
            answers.append(compiled(rows.num_rows, config.recompute))
        return stub(function, *args, title=title)

    stub = isolation.call
    monkeypatch.setattr(isolation, "call", call)
    config = make_check(
        rows={"seq_length": 32},
        per_replica_batch_size=64,
        find_batch=True,
        json=True,
    )
    assert compile_check.main(config) == 0
    found = printed(capsys)
    for name, a_row in (
        ("largest_per_replica_batch_size", 80 * 2**20),
        ("largest_with_recompute", 50 * 2**20),
    ):
        assert found[name] == (available - fixed) // a_row // 8 * 8
    # Each search takes the first size, its double, the largest that fits and
    # the next. The first size is known from the check itself.
    assert len([f for f, _, _ in calls if f is training_step.lower]) <= 9


def test_the_peers_steps_are_compiled_for_the_same_rows(
    make_check, no_compiler, capsys
):
    calls, _ = no_compiler
    config = make_check(
        rows={"seq_length": 32}, per_replica_batch_size=8, compare=True
    )
    assert compile_check.main(dataclasses.replace(config, json=True)) == 0
    found = printed(capsys)
    for peer in ("huggingface", "official"):
        assert found[peer]["flops"] == found["flops"] == COMPILED.flops
        assert found[peer]["num_all_reduces"] == 2
    assert len({args[-2] for f, args, _ in calls if "lower" in f.__name__}) == 1
    compile_check.main(config)
    assert "Comparison with other implementations" in capsys.readouterr().out


def test_the_advice_keeps_the_batch_and_divides_it_more():
    class Ours:
        fits = False

        def num_fitting_rows(self):
            return 50

    finding = findings.Finding(
        phases=[],
        batch=training_step.BatchShape(192, 128, 20, False, 2),
        recompute=True,
        model="",
        ours=Ours(),
        peers={},
        largest={},
    )
    assert findings.remedy(finding) == (
        "--per_replica_batch_size=50 (about the largest that fits), or "
        "--accumulation_steps=8"
    )


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "--seq_length is missing"),
        ({"rows": {"seq_length": 4}}, "--seq_length=4 must"),
        (
            {"rows": {"seq_length": 16, "max_predictions_per_seq": 17}},
            "--max_predictions_per_seq=17 must",
        ),
        (
            {"rows": {"seq_length": 16}, "training": {"data_dir": "x"}},
            "--seq_length=16 and --data_dir=x both",
        ),
        (
            {"rows": {"seq_length": 32}, "training": {"phases": "x"}},
            "--phases=x needs --data_dir",
        ),
        (
            {"rows": {"seq_length": 32}, "per_replica_batch_size": 0},
            "--per_replica_batch_size=0 must",
        ),
        (
            {
                "rows": {"seq_length": 32},
                "per_replica_batch_size": 6,
                "training": {"accumulation_steps": 4},
            },
            "--per_replica_batch_size=6 must be a positive multiple of "
            "--accumulation_steps=4",
        ),
        (
            {"rows": {"seq_length": 32}, "price_per_chip_hour": -1.0},
            "--price_per_chip_hour=-1.0",
        ),
    ],
)
def test_impossible_options_are_refused(make_check, values, message):
    with pytest.raises(errors.UserError, match=message):
        make_check(**values)


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"rows": {"seq_length": 32}, "accelerator_type": "v5litepod-3"},
            "--accelerator_type=v5litepod-3",
        ),
        (
            {"rows": {"seq_length": 32}, "training": {"global_batch_size": 12}},
            "--global_batch_size=12 must be a positive multiple of the 8",
        ),
        (
            {"rows": {"seq_length": 128}},
            "bert.json: the records' seq_length 128 exceeds",
        ),
        (
            {"rows": {"seq_length": 32}, "training": {"masked_fraction": 1.5}},
            "--masked_fraction=1.5",
        ),
        ({"training": {"data_dir": "/nowhere"}}, "/nowhere/manifest.json"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_compiling(
    make_check, no_compiler, values, message
):
    calls, _ = no_compiler
    with pytest.raises(errors.UserError, match=message):
        checking.check(make_check(**values))
    assert not calls


@pytest.mark.slow
@needs_compiler
def test_a_training_s_flag_file_is_read_and_a_mistake_is_one_line(tmp_path):
    flags = tmp_path / "my.flags"
    flags.write_text(
        f"--model_dir={tmp_path}\n--model_size=tiny\n--total_steps=100\n"
        "--warmup_steps=10\n--tpu=local\n--global_batch_size=20\n"
    )
    run = subprocess.run(
        [
            *(sys.executable, "-m", "bert_pretrain.compile_check"),
            *("--accelerator_type=v5litepod-8", f"--flagfile={flags}"),
            "--seq_length=64",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert run.returncode == errors.EXIT_CODE
    assert (
        run.stderr.strip()
        .splitlines()[-1]
        .startswith(
            "error: --global_batch_size=20 must be a positive multiple of the 8"
        )
    )
    assert not run.stdout


def test_without_the_compiler_the_message_says_how_to_install_it(
    make_check, monkeypatch
):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    monkeypatch.setattr(compiler, "is_installed", lambda: False)
    with pytest.raises(errors.UserError, match="pip install .*compile"):
        checking.check(make_check(rows={"seq_length": 32}))


def test_the_compiler_s_message_about_memory_is_understood():
    too_large = compiler._translate(
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of "
        "memory in memory space hbm. Used 55.89G of 15.75G hbm. Exceeded hbm "
        "capacity by 40.14G.\n\nTotal hbm usage >= 56.15G:\n"
    )
    assert too_large.needed_bytes == round(55.89 * 2**30)
    assert too_large.available_bytes == round(15.75 * 2**30)
    too_large = compiler._translate(
        "RESOURCE_EXHAUSTED: Allocation (size=30000807936) would exceed "
        "memory (size=17179869184) :: #allocation5"
    )
    assert too_large.needed_bytes == 30000807936
    refused = compiler._translate("INTERNAL: Mosaic failed\nat length")
    assert isinstance(refused, errors.UserError)
    assert str(refused).endswith("refuses the step: INTERNAL: Mosaic failed")
