"""The commands that make would run, without running them."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parent.parent


def would_run(target, **variables):
    done = subprocess.run(
        ["make", "-n", target, *(f"{k}={v}" for k, v in variables.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_vocabulary_of_the_user_is_not_learned_again(tmp_path):
    mine, sample = tmp_path / "vocab.txt", tmp_path / "sample" / "README.md"
    variables = {"OUTPUT": tmp_path, "VENV": tmp_path / "venv", "VOCAB": mine}
    assert "learn_vocabulary" in would_run("vocabulary", **variables)
    sample.parent.mkdir()
    for path, seconds in ((mine, 1), (sample, 2)):
        path.write_text("")
        os.utime(path, (seconds, seconds))
    assert "learn_vocabulary" not in would_run("vocabulary", **variables)
    assert "tfrecord_builders.build" in would_run("tfrecords", **variables)


def test_compile_check_takes_the_recipes(tmp_path):
    variables = {"VENV": tmp_path / "venv", "ACCELERATOR": "v4-8"}
    plan = would_run("compile-check", **variables)
    assert "[compile]" in plan and "--accelerator_type=v4-8" in plan
    recipes = sorted((ROOT / "recipes").glob("*/compile_check*.flags"))
    assert len(recipes) >= 5
    for path in recipes:
        assert str(path.relative_to(ROOT)) in plan
    plan = would_run("compile-check", RECIPES="a.flags b.flags", **variables)
    assert "for recipe in a.flags b.flags" in plan


def test_variables_take_the_place_of_a_recipe_s_options(tmp_path):
    variables = {"OUTPUT": tmp_path, "VENV": tmp_path / "venv"}
    plan = would_run("train", RECIPE="mine", TOTAL_STEPS=7, **variables)
    assert "--flagfile=mine/train.flags" in plan
    assert plan.index("--flagfile=mine/train") < plan.index("--total_steps=7")
    assert "--model_size" not in plan
    assert "--flagfile=mine/build.flags" in plan
    assert "--flagfile=mine/vocabulary.flags" in plan


def test_all_tests_are_the_fast_ones_and_then_the_slow_ones(tmp_path):
    plan = would_run("test-all", VENV=tmp_path / "venv")
    fast, slow = 'pytest -m "not slow"', "pytest -m slow"
    assert plan.count(fast) == plan.count(slow) == 1
    assert plan.index(fast) < plan.index(slow)
    assert would_run("test", VENV=tmp_path / "venv").count("pytest -m") == 1
