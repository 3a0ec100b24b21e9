"""Wrong values of any kind end in a result or in one line, never otherwise.

`FUZZ_ROUNDS=10000 pytest tests/test_fuzz.py` tries that many of each kind.
"""

import json
import os
import random
import types

import pytest
import tensorflow as tf
import yaml

from bert_pretrain import command_line, errors, options
from bert_pretrain.assessment import check_config
from bert_pretrain.data import manifests
from bert_pretrain.evaluation import evaluation_config
from bert_pretrain.interchange import export_config
from bert_pretrain.model import config_json, model_config
from bert_pretrain.pretraining import phases, pretraining_config
from bert_pretrain.telemetry import curves, metrics_log
from tfrecord_builders.building import adopt_config
from tfrecord_builders.stages import build_config
from tfrecord_builders.tokens import learn_config

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "300"))
CONFIGS = [
    adopt_config.AdoptConfig,
    build_config.BuildConfig,
    check_config.CheckConfig,
    evaluation_config.EvaluateConfig,
    export_config.ExportConfig,
    learn_config.LearnConfig,
    pretraining_config.TrainingConfig,
]
SCALARS = (
    *(0, 1, -1, 2, 7, 16, 512, 10**6, 2**31, 2**63, 10**30, -(10**20)),
    *(0.0, 0.1, 0.5, 1.0, -0.5, 1e-30, 1e30, 1e308, float("nan")),
    *(float("inf"), float("-inf"), True, False, None),
    *(
        "",
        "x",
        "gelu",
        "none",
        "true",
        "nan",
        "inf",
        "1e5",
        "~",
        "*",
        "[",
        "\\",
    ),
    *(
        "é中\u0301\ud7ff",
        "a" * 5000,
        "\n",
        "\0",
        "../..",
        "-",
        "--x",
        "a=b",
        "{}",
    ),
)


def value_of(rng, depth=0):
    """A value of JSON, most often a scalar."""
    kind = rng.random()
    if depth < 3 and kind < 0.1:
        return [value_of(rng, depth + 1) for _ in range(rng.randrange(4))]
    if depth < 3 and kind < 0.2:
        return {
            str(rng.choice(SCALARS)): value_of(rng, depth + 1)
            for _ in range(rng.randrange(4))
        }
    return rng.choice(SCALARS)


def mutated(rng, values):
    """A mapping with some values replaced, added or left out."""
    values = dict(values)
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice([*values, str(rng.choice(SCALARS))])
        if rng.random() < 0.2:
            values.pop(name, None)
        else:
            values[name] = value_of(rng)
    return values


def assert_one_line(call, what):
    try:
        return call()
    except errors.UserError as error:
        assert str(error).strip(), what
    except Exception as error:
        raise AssertionError(f"{what!r}") from error
    return None


@pytest.mark.parametrize("config_class", CONFIGS, ids=lambda c: c.__name__)
def test_options(config_class):
    rng = random.Random(0)
    flags = [f.name for f, _, _ in command_line._options_in(config_class)]
    for _ in range(ROUNDS):
        arguments = [
            f"--{rng.choice(flags)}={rng.choice(SCALARS)}"
            for _ in range(rng.randrange(1, 6))
        ]
        if rng.random() < 0.1:
            arguments.append(str(rng.choice(SCALARS)))
        config = assert_one_line(
            lambda a=arguments: command_line.parse(config_class, a), arguments
        )
        if config is not None:
            plain = options.to_dict(config)
            assert options.from_dict(config_class, plain) == config


@pytest.mark.slow
def test_config_json(make_dataset, tmp_path):
    rng = random.Random(1)
    manifest = manifests.read(make_dataset(train=(13,), pairing="nsp"))
    usual = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "model_type": "bert",
        "id2label": {"0": "a"},
        "pruned_heads": {},
    }
    path = tmp_path / "config.json"
    config = model_config.ModelConfig(bert_config=str(path))
    for number in range(ROUNDS):
        values = mutated(rng, usual) if number % 10 else value_of(rng)
        text = json.dumps(values)
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text) + 1)]
        path.write_text(text)
        assert_one_line(
            lambda: config_json.architecture(config, manifest), text
        )


@pytest.mark.slow
def test_phases(make_dataset, tmp_path):
    rng = random.Random(2)
    folders = [make_dataset(name, train=(13,)) for name in ("s1", "s2")]
    known = {folder: manifests.read(folder) for folder in folders}
    beginning = {
        "data_dir": folders[0],
        "global_batch_size": 8,
        "accumulation_steps": 1,
        "masked_fraction": None,
        "peak_learning_rate": 1e-3,
    }
    usual = {"from_step": 50, "data_dir": folders[1], "warmup_steps": 5}
    path = tmp_path / "phases.yaml"
    for number in range(ROUNDS):
        entries = [mutated(rng, usual) for _ in range(rng.randrange(1, 3))]
        text = yaml.safe_dump(entries if number % 10 else value_of(rng))
        if rng.random() < 0.2:
            text = text[: rng.randrange(len(text) + 1)]
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        assert_one_line(
            lambda: phases.read(str(path), beginning, 100, known), text
        )


@pytest.mark.slow
def test_metrics(tmp_path, capsys):
    rng = random.Random(3)
    path = tmp_path / "metrics.jsonl"
    usual = {"kind": "eval", "step": 3, "num_examples": 24, "x": 0.5}
    state = types.SimpleNamespace(
        step=5, num_examples=tf.Variable(40, dtype=tf.int64)
    )
    for _ in range(ROUNDS):
        lines = [
            json.dumps(mutated(rng, usual) if rng.random() < 0.5 else usual)
            for _ in range(5)
        ]
        content = "\n".join(lines).encode()
        if rng.random() < 0.3:
            start = rng.randrange(len(content))
            noise = rng.randbytes(rng.randrange(8))
            content = content[:start] + noise + content[start + 3 :]
        path.write_bytes(content)

        def resume():
            log = metrics_log.MetricsLog(str(path), state)
            log.resume(is_restored=True)
            log.append("eval", {"masked_lm_loss": 1.0})
            assert log.evaluations()[-1]["step"] == 5

        assert_one_line(resume, content)
        assert_one_line(lambda: curves.read([str(tmp_path)]), content)
    capsys.readouterr()
