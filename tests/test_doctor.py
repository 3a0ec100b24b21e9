"""The doctor: a healthy run, and a run with each fault that it knows."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from bert_pretrain import command_line, doctor, files
from bert_pretrain.devices import versions
from bert_pretrain.diagnosis import (
    check,
    doctor_config,
    environment,
    examination,
    machine,
    run_files,
)
from bert_pretrain.model import bert_model
from helpers import pods, training

PATHS = ("TPU_LIBRARY_PATH", "TF_PLUGGABLE_DEVICE_LIBRARY_PATH")


@pytest.fixture(autouse=True)
def without_variables(monkeypatch):
    for name in (
        *PATHS,
        "NEXT_PLUGGABLE_DEVICE_USE_C_API",
        "TPU_ACCELERATOR_TYPE",
        "TPU_LOAD_LIBRARY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def flags(make_dataset, tmp_path):
    training.write_small_bert(tmp_path / "bert.json")
    return [
        f"--data_dir={make_dataset(train=(13, 7, 9, 11), pairing='nsp')}",
        f"--model_dir={tmp_path / 'model'}",
        f"--bert_config={tmp_path / 'bert.json'}",
        "--global_batch_size=8",
    ]


@pytest.fixture
def examine(flags, monkeypatch):
    """`examine("--tpu=local")` -> {name: results}; the import is not tried."""
    monkeypatch.setattr(environment, "_IMPORT", "pass")

    def run(*more):
        config = command_line.parse(doctor_config.DoctorConfig, [*flags, *more])
        return by_name(examination.examine(config).results)

    return run


def by_name(results):
    found = {}
    for result in results:
        found.setdefault(result.name, []).append(result)
    return found


def assert_error(results, text, remedy=""):
    """Checks that one of the results is this error, in one line."""
    errors = [r for r in results if r.level == "error"]
    assert errors, results
    assert any(
        re.search(text, r.text) and re.search(remedy, r.remedy or r.text)
        for r in errors
    ), errors
    assert not any("\n" in r.line() for r in results)


def test_a_healthy_run_has_a_line_for_each_check(examine):
    found = examine()
    assert list(found) == [
        "versions",
        "wheel",
        "variables",
        "import",
        "model_dir",
        "dataset",
        "shards",
        "batch",
        "disk",
        "memory",
        "input",
    ]
    levels = {r.level for results in found.values() for r in results}
    assert levels == {"ok"}


def test_json_and_the_exit_code_tell(examine, flags, monkeypatch, capsys):
    def run(*more):
        config = command_line.parse(
            doctor_config.DoctorConfig, [*flags, "--json", *more]
        )
        code = doctor.main(config)
        return code, json.loads(capsys.readouterr().out)

    code, told = run()
    assert code == 0 and told["is_healthy"]
    code, told = run("--global_batch_size=7", "--num_cpu_replicas=2")
    assert code == 1 and not told["is_healthy"]
    (batch,) = [r for r in told["results"] if r["name"] == "batch"]
    assert batch["level"] == "error"


# ------------------------------------------------------------ environment


def pretend(monkeypatch, **installed):
    """Lets packages have other versions; None for one that is missing."""
    real = versions.installed
    given = {k.replace("_", "-"): v for k, v in installed.items()}
    monkeypatch.setattr(
        versions,
        "installed",
        lambda package: (
            given.get(package, None) if package in given else real(package)
        ),
    )


def test_companions_of_another_tensorflow_are_named(examine, monkeypatch):
    pretend(monkeypatch, tensorflow_text="2.19.0", transformers="5.0.1")
    found = examine()["versions"]
    assert_error(found, "tensorflow-text 2.19.0", "pip install -c constraints")
    assert_error(found, "transformers 5.0.1 has no TFBert")


def test_a_tensorflow_of_no_set_is_named(examine, monkeypatch):
    pretend(monkeypatch, tensorflow="2.19.1", tensorflow_tpu=None)
    assert_error(examine()["versions"], "2.19.1 is in no set")


def test_an_import_that_aborts_is_explained(examine, monkeypatch):
    monkeypatch.setattr(
        environment,
        "_IMPORT",
        "import os, sys; sys.stderr.write('F0000 ConfigureDistributedTpuOp_"
        "DoWork not available in this library\\n'); os.abort()",
    )
    found = examine()
    assert_error(
        found["import"], "DoWork not", "libtpu is too new.*pip install"
    )
    assert "dataset" not in found  # It needs TensorFlow.


def test_the_plain_wheel_cannot_use_a_tpu(examine):
    found = examine("--tpu=local")
    assert_error(found["wheel"], "plain tensorflow won", "tensorflow-tpu==")
    assert "TPU" not in found  # There is nothing to try.


def test_the_wheel_that_won_is_told_by_the_files(tmp_path, monkeypatch):
    # Two wheels that bring the same file, as pip notes them.
    library = "tensorflow/libtensorflow_cc.so.2"
    for package, size in (("tensorflow", 3), ("tensorflow_tpu", 5)):
        info = tmp_path / f"{package}-2.20.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.20.0\n"
        )
        (info / "RECORD").write_text(f"{library},sha256=x,{size}\n")
    (tmp_path / "tensorflow").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for size, winner in ((3, "tensorflow"), (5, "tensorflow-tpu"), (4, None)):
        (tmp_path / library).write_bytes(b"x" * size)
        assert environment.winning_wheel() == winner


@pytest.mark.parametrize(
    "version, level",
    [("0.0.20", "ok"), ("0.0.43.2", "warning"), ("0.0.52", "error")],
)
def test_libtpu_must_be_old_enough(examine, monkeypatch, version, level):
    pretend(
        monkeypatch,
        libtpu=version,
        tensorflow="2.20.0",
        **{name: "2.20.1" for name in ("tensorflow_text", "tf_keras")},
        tf_models_official="2.20.0",
    )
    (result,) = examine("--tpu=local")["libtpu"]
    assert result.level == level
    assert ("libtpu==0.0.20" in result.remedy) == (level != "ok")


def test_variables_that_let_tensorflow_load_libtpu_are_required(
    examine, monkeypatch, tmp_path
):
    assert_error(examine("--tpu=local")["variables"], "would not load libtpu")
    library = tmp_path / "libtpu.so"
    for path in PATHS:
        monkeypatch.setenv(path, str(library))
    monkeypatch.setenv("NEXT_PLUGGABLE_DEVICE_USE_C_API", "true")
    assert_error(examine("--tpu=local")["variables"], "no such file")
    library.write_bytes(b"")
    (missing,) = examine("--tpu=local")["variables"]
    assert missing.level == "warning" and "no MFU" in missing.text
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    assert examine("--tpu=local")["variables"][0].level == "ok"
    # A pod's coordinator aborts with them.
    (port,) = pods.free_ports(1)
    for tpu in ("", f"--tpu=grpc://127.0.0.1:{port}"):
        found = examine(*([tpu] if tpu else []))["variables"]
        assert_error(found, "must not be set", "unset TPU_LIBRARY_PATH")


# -------------------------------------------------------------- machine


def test_a_worker_that_does_not_answer_is_named(examine, monkeypatch):
    monkeypatch.setenv("TPU_LOAD_LIBRARY", "0")
    (port,) = pods.free_ports(1)
    found = examine(f"--tpu=grpc://127.0.0.1:{port}", "--tpu_seconds=1")
    assert_error(found["TPU"], f"127.0.0.1:{port}", "bert_pretrain.worker")


def test_a_small_disk_is_an_error(examine, monkeypatch):
    usage = machine.shutil._ntuple_diskusage(1000, 999, 1)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    assert_error(examine()["disk"], "0 MB free", "free some space")


def test_a_small_memory_is_a_warning(examine, monkeypatch):
    little = machine.psutil.virtual_memory()._replace(available=10**9)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: little)
    (result,) = examine()["memory"]
    assert result.level == "warning"


def test_parameters_are_counted_as_the_model_has_them(make_config):
    from bert_pretrain.pretraining import blueprint

    config = make_config()
    (phase,) = blueprint.plan(config)
    bert = bert_model.build(config.architecture, phase.manifest, 0)
    assert run_files.num_parameters(bert.config, True) == sum(
        int(v.shape.num_elements()) for v in bert.variables
    )


# ---------------------------------------------------------------- files


def test_a_directory_that_cannot_be_written_is_an_error(examine, tmp_path):
    (tmp_path / "file").write_text("")
    found = examine(f"--model_dir={tmp_path / 'file' / 'model'}")
    assert_error(found["model_dir"], str(tmp_path))


def data_dir_of(flags):
    return pathlib.Path(flags[0].partition("=")[2])


def test_a_dataset_without_a_manifest_is_an_error(examine, flags):
    (data_dir_of(flags) / "manifest.json").unlink()
    assert_error(examine()["dataset"], "manifest.json does not exist|holds no")


def test_a_truncated_shard_is_an_error(examine, flags):
    shard = next(data_dir_of(flags).glob("train-00001*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert_error(examine()["dataset"], f"{shard.name}: .*truncated")


def test_another_vocabulary_is_an_error(examine, flags):
    vocab = data_dir_of(flags) / "vocab.txt"
    vocab.write_text(vocab.read_text() + "more\n")
    assert_error(examine()["dataset"], "vocab.txt")


def test_shards_that_hosts_cannot_share_are_an_error(examine, monkeypatch):
    monkeypatch.setenv("TPU_LOAD_LIBRARY", "0")
    ports = pods.free_ports(8)
    tpu = "--tpu=grpc://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    found = examine(tpu, "--tpu_seconds=1")
    assert_error(found["shards"], "4 training shards for 8 .*--num_shards")


def test_a_batch_that_replicas_cannot_share_is_an_error(examine, monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    assert examine("--tpu=local")["batch"][0].level == "ok"
    found = examine("--tpu=local", "--global_batch_size=12")
    assert_error(found["batch"], "--global_batch_size=12 .*8 replicas")


def test_the_time_to_fetch_a_batch_is_told(examine):
    (result,) = examine()["input"]
    assert re.search(r"a batch of 8 is fetched in [\d.]+ ms", result.text)


# ----------------------------------------------------------------- step


@pytest.mark.slow
@pytest.mark.skipif(
    # Its import would set a variable.
    importlib.util.find_spec("libtpu") is None,
    reason="needs the TPU's compiler",
)
def test_with_a_type_the_step_is_compiled_and_has_a_price(flags):
    done = subprocess.run(
        [
            *[sys.executable, "-m", "bert_pretrain.doctor", "--json"],
            *[*flags, "--accelerator_type=v5litepod-1"],
            *["--price_per_chip_hour=2", "--total_steps=1000000"],
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_GCE_CHECK": "true"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    step = told["step"]
    assert step["fits"] and step["num_replicas"] == 1
    assert step["cost_at_roofline"] == pytest.approx(
        2 * step["hours_at_roofline"]
    )
    texts = [r["text"] for r in told["results"] if r["name"] == "time"]
    assert len(texts) == 2 and "bound" in texts[0] and "cost" in texts[0]


def test_the_recipes_can_be_examined_without_a_dataset():
    recipe = files.expand(["recipes/*/compile_check.flags"])
    assert len(recipe) >= 4
    for path in recipe:
        config = command_line.parse(
            doctor_config.DoctorConfig, [f"--flagfile={path}"]
        )
        assert dataclasses.asdict(config)["training"]["data_dir"] == ""


def test_a_mistake_in_an_option_becomes_a_line_of_the_check():
    def fail():
        from bert_pretrain import errors

        raise errors.UserError("a.txt: is\nbroken; mend it.")
        yield

    (result,) = check.results_of("thing", fail)
    assert result == check.error("thing", "a.txt: is broken; mend it")
