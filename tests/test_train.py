"""The training program: resuming, refusing, and the files it writes."""

import collections
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import traceback

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from bert_pretrain import errors, options, train
from bert_pretrain.checkpoints import model_directory
from bert_pretrain.data import manifests, records
from bert_pretrain.devices import distribution_config
from bert_pretrain.model import objectives
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.telemetry import telemetry_config
from bert_pretrain.training import recovery, trainer, training_config
from helpers import programs, training, wandb_files


@pytest.mark.slow
def test_an_interrupted_and_a_crashed_run_end_as_an_undisturbed_one(
    make_config, monkeypatch, capsys
):
    whole = make_config(model_dir="whole")
    assert train.main(whole) == 0
    expected = training.saved_values(whole)

    config = make_config(whole.data_dir)
    for number, step, code in (signal.SIGINT, 2, 130), (signal.SIGTERM, 4, 75):
        with monkeypatch.context() as patch:
            training.disturb(
                patch, step, lambda n=number: os.kill(os.getpid(), n)
            )
            assert train.main(config) == code
        assert f"step {step} is saved" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        # It crashes in the action, before the checkpoint of step 8 is written.
        training.disturb(patch, 8, training.crash)
        with pytest.raises(RuntimeError, match="power cut"):
            train.main(config)
    assert train.main(config) == 0
    assert capsys.readouterr().out.count("resuming at step 4") == 2

    training.assert_same(training.saved_values(config), expected)
    results = [training.results_of(c) for c in (whole, config)]
    for part in ("step", "start", "end", "unigram_entropy"):
        assert results[0][part] == results[1][part]


def test_a_run_that_gets_sigterm_saves_and_skips_the_evaluation(
    make_config, monkeypatch
):
    whole = make_config(model_dir="whole", total_steps=8, eval_every_steps=4)
    assert train.main(whole) == 0
    config = make_config(whole.data_dir, total_steps=8, eval_every_steps=4)
    with monkeypatch.context() as patch:
        training.disturb(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train.main(config) == 75
    assert list(training.logged(config, "eval", "masked_lm_loss")) == [0]
    assert not pathlib.Path(
        f"{config.saving.model_dir}/{model_directory.TRAIN_RESULTS_NAME}"
    ).exists()
    assert train.main(config) == 0
    for kind in ("eval", "train"):
        assert training.logged(
            config, kind, "masked_lm_loss"
        ) == training.logged(whole, kind, "masked_lm_loss")


@pytest.mark.slow
def test_a_run_continues_with_another_number_of_replicas(
    make_config, monkeypatch
):
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    whole = make_config(model_dir="whole", bert=plain)
    assert train.main(whole) == 0
    config = make_config(whole.data_dir, bert=plain)
    with monkeypatch.context() as patch:
        training.disturb(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train.main(config) == 75
    devices = distribution_config.DistributionConfig(num_cpu_replicas=2)
    assert train.main(dataclasses.replace(config, devices=devices)) == 0
    # Other examples would have other losses.
    for name in ("masked_lm_loss", "num_examples", "num_predictions"):
        assert training.logged(config, "train", name) == pytest.approx(
            training.logged(whole, "train", name), rel=1e-4
        )


def test_a_run_leaves_results_logs_and_a_directory_that_explains_itself(
    make_config, capsys
):
    config = make_config(total_steps=4, eval_every_steps=2)
    assert train.main(config) == 0
    folder = pathlib.Path(config.saving.model_dir)
    results = training.results_of(config)
    assert results["step"] == 4
    for name in (
        "masked_lm_loss",
        "masked_lm_accuracy",
        "masked_lm_perplexity",
        "next_sentence_loss",
        "next_sentence_accuracy",
    ):
        assert np.isfinite(results["start"][name])
        assert np.isfinite(results["end"][name])
    assert results["end"]["masked_lm_perplexity"] == pytest.approx(
        np.exp(results["end"]["masked_lm_loss"])
    )
    assert abs(results["start"]["masked_lm_loss"] - np.log(60)) < 0.2
    assert 0 < results["unigram_entropy"] < np.log(60)
    assert results["examples_per_second"] > 0
    assert results["tokens_per_second"] == pytest.approx(
        16 * results["examples_per_second"], rel=1e-2
    )
    assert 1e8 < results["peak_memory_bytes"] < 1e11

    assert (
        options.from_dict(
            pretraining_config.TrainingConfig,
            json.loads(
                (folder / model_directory.TRAIN_CONFIG_NAME).read_text()
            ),
        )
        == config
    )
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "vocab.txt",
        "checkpoint",
        "logs",
    }
    assert logged_names(folder / "logs" / "train") >= {
        "masked_lm_loss",
        "masked_lm_accuracy",
        "next_sentence_accuracy",
        "learning_rate",
        "gradient_norm",
        "parameter_norm",
        "examples_per_second",
        "tokens_per_second",
        "tokens_per_second_without_padding",
        "input_wait_share",
        "seconds_left",
        "host_memory_bytes",
    }
    assert "masked_lm_loss" in logged_names(folder / "logs" / "eval")

    output = capsys.readouterr().out
    assert "step 2/4 " in output and "step 4/4 " in output
    assert output.count("eval at step 2:") == 1
    assert "Training is complete" in output


def logged_names(folder):
    (path,) = folder.glob("events.*")
    return {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }


@pytest.mark.slow
def test_a_run_can_be_followed_and_traced(make_config, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = make_config(
        total_steps=8,
        steps_per_loop=5,
        trace=telemetry_config.ProfilingConfig(profile_steps="3:4"),
        tracking=telemetry_config.WandbConfig(wandb="a-project"),
    )
    assert train.main(config) == 0
    folder = pathlib.Path(config.saving.model_dir)
    log = training.log_of(config)
    assert [record["step"] for record in log] == [0, 2, 4, 5, 8, 8]

    ((_, history),) = wandb_files.read(folder)
    sent = {
        (record["kind"], record["step"]): {
            name: history[record["step"]][f"{record['kind']}/{name}"]
            for name in record
            if name not in ("kind", "step")
        }
        for record in log
    }
    for record in log:
        place = record.pop("kind"), record.pop("step")
        assert sent[place] == record

    (trace,) = folder.glob("logs/train/plugins/profile/*/*.xplane.pb")
    space = xplane_pb2.XSpace()
    space.ParseFromString(trace.read_bytes())
    names = collections.Counter(
        plane.event_metadata[event.metadata_id].name
        for plane in space.planes
        for line in plane.lines
        for event in line.events
    )
    # Each product of our step comes twice, because two steps were traced.
    products = [name for name in names if "BatchMatMul" in name]
    assert products and {names[name] for name in products} == {2}


@pytest.mark.slow
def test_a_start_does_not_wait_for_the_conversion_of_our_functions(
    make_config, monkeypatch
):
    converted = []
    real = objectives.Pretraining.forward

    def forward(*arguments):
        converted.append(
            {
                frame.name
                for frame in traceback.extract_stack()
                if "autograph_generated" in frame.filename
            }
        )
        return real(*arguments)

    monkeypatch.setattr(objectives.Pretraining, "forward", forward)
    assert train.main(make_config(total_steps=1)) == 0
    # Those of training and evaluation; only Orbit's loop is converted.
    assert converted == [{"tf__loop_fn", "loop_body"}] * 2


@pytest.mark.slow
def test_a_finished_run_only_evaluates_again(make_config, capsys):
    config = make_config(total_steps=2)
    train.main(config)
    assert "step 2/2" in capsys.readouterr().out
    before = training.saved_values(config)
    assert train.main(config) == 0
    assert "step 2/2" not in capsys.readouterr().out
    training.assert_same(training.saved_values(config), before)


@pytest.mark.slow
def test_a_run_with_another_batch_size_continues_at_the_same_example(
    make_config, monkeypatch, capsys
):
    served = []
    real = trainer.Trainer._replica_step

    def note(input_ids):
        served.extend(row.tobytes() for row in input_ids.numpy())

    def replica_step(self, batch):
        tf.py_function(note, [batch["input_ids"]], [])
        return real(self, batch)

    monkeypatch.setattr(trainer.Trainer, "_replica_step", replica_step)
    whole = make_config(model_dir="whole", total_steps=6)
    train.main(whole)
    expected = served.copy()
    served.clear()
    config = make_config(whole.data_dir, total_steps=6)
    with monkeypatch.context() as patch:
        training.disturb(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train.main(config) == 75
    assert train.main(training.allowing(config, global_batch_size=4)) == 0
    assert "global_batch_size=8, this run asks for 4" in capsys.readouterr().err
    assert len(set(expected)) == 29  # the run passes the end of an epoch
    assert served == expected[: 2 * 8 + 4 * 4]


def recovering(make_config, data_dir, max_rollbacks, **values):
    config = make_config(
        data_dir,
        total_steps=6,
        global_batch_size=4,
        failures=training_config.RecoveryConfig(
            max_bad_steps=2, max_rollbacks=max_rollbacks
        ),
        **values,
    )
    return dataclasses.replace(
        config,
        saving=dataclasses.replace(config.saving, checkpoint_every_steps=2),
    )


@pytest.mark.slow
def test_a_run_skips_data_that_spoils_its_updates(
    make_config, make_dataset_of_rows, capsys
):
    # The examples 8 to 15 belong to one loop.
    without = make_dataset_of_rows("without", [*range(8), *range(16, 24)])
    expected = recovering(make_config, without, 0, model_dir="without")
    assert train.main(expected) == 0
    spoilt = make_dataset_of_rows("spoilt", range(24), spoilt=range(8, 16))
    config = recovering(make_config, spoilt, 1)
    assert train.main(config) == 0
    assert (
        "back from step 4 to 2, skipping the examples 8 to 15 (rollback 1 of 1)"
    ) in capsys.readouterr().err
    training.assert_same(
        training.saved_values(config),
        training.saved_values(expected),
        but=("num_examples/", "num_rollbacks/", "num_predictions/"),
    )
    log = training.log_of(config)
    assert [(r["kind"], r["step"], r["num_examples"]) for r in log] == [
        ("eval", 0, 0),
        ("train", 2, 8),
        ("train", 4, 16),
        ("rollback", 4, 16),
        ("train", 4, 24),
        ("train", 6, 32),
        ("eval", 6, 32),
    ]
    bad = [record.get("bad_steps") for record in log]
    assert bad == [None, 0, 2, None, 0, 0, None]


@pytest.mark.slow
def test_the_skipped_data_may_be_the_start_of_a_dataset(
    make_config, make_dataset_of_rows, tmp_path, capsys
):
    first = make_dataset_of_rows("first", range(24))

    def phased(name, second, max_rollbacks):
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"- {{from_step: 2, data_dir: {second}, warmup_steps: 2, "
            "reset_optimizer: true}\n"
        )
        return recovering(
            make_config,
            first,
            max_rollbacks,
            model_dir=name,
            phases=str(path),
        )

    without = make_dataset_of_rows("without", range(8, 24))
    expected = phased("expected", without, 0)
    assert train.main(expected) == 0
    spoilt = make_dataset_of_rows("spoilt", range(24), spoilt=range(8))
    config = phased("actual", spoilt, 1)
    assert train.main(config) == 0
    assert "back from step 4 to 2, skipping the examples 8 to 15" in (
        capsys.readouterr().err
    )
    training.assert_same(
        training.saved_values(config),
        training.saved_values(expected),
        but=("num_examples/", "num_rollbacks/", "num_predictions/"),
    )


@pytest.mark.slow
def test_a_run_that_cannot_recover_says_what_to_check(
    make_config, make_dataset_of_rows, capsys
):
    data_dir = make_dataset_of_rows("spoilt", range(24), spoilt=range(4, 24))
    config = recovering(make_config, data_dir, 2)
    for _ in range(2):  # A second run ends in the same way.
        assert train.main(config) == recovery.DIVERGED_CODE
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: stopped at step ")
        assert "2 updates in a row were not finite, after 2 rollbacks" in error
        for hint in (
            "--peak_learning_rate",
            "examples 32 to 39",
            "--precision=float32",
            "--max_rollbacks",
        ):
            assert hint in error, error


def truncate(data_dir):
    path = pathlib.Path(data_dir) / records.shard_name("train", 1, 3)
    path.write_bytes(path.read_bytes()[:-7])


def other_vocabulary(data_dir):
    path = pathlib.Path(data_dir) / "vocab.txt"
    path.write_text(path.read_text().replace("t7\n", "t700\n"))


def no_manifest(data_dir):
    (pathlib.Path(data_dir) / manifests.MANIFEST_NAME).unlink()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (truncate, "train-00001-of-00003.tfrecord: .* truncated"),
        (other_vocabulary, "vocab.txt: the vocabulary has sha256"),
        (no_manifest, "holds no finished dataset"),
    ],
)
def test_a_damaged_dataset_is_refused(make_config, spoil, message):
    config = make_config()
    spoil(config.data_dir)
    with pytest.raises(errors.UserError, match=message):
        train.main(config)


@pytest.mark.parametrize(
    "options_of_set, message",
    [
        ({"held_out": 0}, "eval split holds no example"),
        ({"train": (0, 0)}, "train split holds no example"),
    ],
)
def test_a_dataset_without_examples_is_refused(
    make_config, make_dataset, options_of_set, message
):
    with pytest.raises(errors.UserError, match=message):
        train.main(make_config(make_dataset(**options_of_set)))


def test_rows_longer_than_the_positions_are_refused(make_config, make_dataset):
    config = make_config(make_dataset(seq_length=32))
    with pytest.raises(errors.UserError, match="32 exceeds .* 24"):
        train.main(config)


@pytest.mark.slow
def test_another_run_s_directory_is_refused(make_config, make_dataset):
    config = make_config(total_steps=1)
    train.main(config)
    best = pathlib.Path(config.saving.model_dir) / model_directory.BEST
    assert (best / "ckpt-1.json").exists()
    for message, other in {
        "global_batch_size=8, this run asks for 4": make_config(
            config.data_dir, global_batch_size=4
        ),
        "total_steps=1, this run asks for 9.*--allow_changed": make_config(
            config.data_dir
        ),
        "hidden_dropout_prob=0.1, this run asks for 0.5": make_config(
            config.data_dir, total_steps=1, bert={"hidden_dropout_prob": 0.5}
        ),
        "manifest.json of sha256": make_config(
            make_dataset("more", train=(5, 5), pairing="nsp"), total_steps=1
        ),
        "hidden_size=16, this run asks for 32": make_config(
            config.data_dir, bert={"hidden_size": 32}
        ),
        "seed=0, this run asks for 5": make_config(config.data_dir, seed=5),
        "vocab_size=60, this run asks for 61": make_config(
            make_dataset("other", vocab_size=61, pairing="nsp")
        ),
        "BertForPreTraining.*, this run .*BertForMaskedLM": make_config(
            make_dataset("single", pairing="none")
        ),
    }.items():
        with pytest.raises(errors.UserError, match=message):
            train.main(other)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"steps_per_loop": 0}, "steps_per_loop=0"),
        ({"eval_every_steps": -1}, "eval_every_steps=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**31}, "seed=2147483648"),
    ],
)
def test_an_impossible_option_is_refused(make_config, values, message):
    with pytest.raises(errors.UserError, match=message):
        make_config(**values)


def run_in_a_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "bert_pretrain.train", *arguments],
        capture_output=True,
        text=True,
        check=False,
        # As in a shell: the tests' own process has set other levels.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.mark.slow
def test_a_mistake_on_the_command_line_gives_one_line(make_dataset, tmp_path):
    for folder, size, line in (
        (make_dataset(), 0, "error: --global_batch_size=0 must be"),
        (f"{tmp_path}/none", 8, f"error: {tmp_path}/none/manifest.json does"),
    ):
        run = run_in_a_process(
            f"--data_dir={folder}",
            f"--model_dir={tmp_path}/model",
            "--total_steps=3",
            f"--global_batch_size={size}",
        )
        assert run.returncode == errors.EXIT_CODE
        told = programs.own_lines(run.stderr)
        assert told.startswith(line)
        assert told.count("\n") == 1


@pytest.mark.slow
def test_a_run_prints_its_own_lines_alone(make_dataset, tmp_path):
    run = run_in_a_process(
        f"--data_dir={make_dataset()}",
        f"--model_dir={tmp_path}/model",
        "--model_size=tiny",
        "--total_steps=2",
        "--steps_per_loop=1",
        "--global_batch_size=8",
    )
    assert run.returncode == 0, run.stderr
    assert programs.own_lines(run.stderr) == ""
    first, *lines = run.stdout.splitlines()
    assert first.startswith("TFBertForMaskedLM: 2 layers")
    assert [line.split()[0] for line in lines[:6]] == (
        ["steps", "beginning", "eval", "step", "step", "eval"]
    )
    assert "Training is complete" in lines
