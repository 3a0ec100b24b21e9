"""The step of a training, compiled for every kind of TPU that is for rent."""

import functools

import conftest
import pytest
import tpu_programs

from bert_pretrain import distribution, recipe
from bert_pretrain.tpu import compiler, slices, training_step

pytest.importorskip("jax")
pytest.importorskip("libtpu")

NUM_REPLICAS = 4


@pytest.fixture(scope="module")
def compile_step(tmp_path_factory):
    """`compile_step("v6e-4")` -> (the step, what its compiler says)."""
    folder = tmp_path_factory.mktemp("steps")

    @functools.cache
    def lower(recompute):
        config = tpu_programs.config_of(
            "packed",
            conftest.set_maker(folder),
            folder,
            devices=distribution.DistributionConfig(precision="bfloat16"),
            recompute=recompute,
        )
        plan = recipe.plan(config)
        rows = training_step.Rows.of_phase(plan[0], NUM_REPLICAS)
        return training_step.lower(config, plan, rows, NUM_REPLICAS)

    @functools.cache
    def compile_for(name, recompute=True):
        step, chips = lower(recompute), slices.find(name)
        return step, compiler.compile_program(
            step.hlo, chips.topology, NUM_REPLICAS, chips.topology_options
        )

    return compile_for


@pytest.mark.parametrize("name", ["v4-8", "v5litepod-4", "v5p-8", "v6e-4"])
def test_the_step_compiles_for_every_kind_of_tpu(compile_step, name):
    step, compiled = compile_step(name)
    assert "tpu_custom_call" in compiled.text  # the kernel of attention
    # The sums of all gradients in a few, and nothing else is sent around.
    assert 1 <= compiled.num_all_reduces <= 4
    assert not compiled.num_other_collectives
    # Weights and moments are written over, not written anew.
    state_bytes = step.variable_bytes + step.optimizer_bytes
    assert compiled.alias_bytes > 0.95 * state_bytes


def test_what_is_computed_again_is_not_merged_with_the_first(compile_step):
    # A third more of the layers, of which the kernel's share is not counted.
    _, once = compile_step("v5litepod-4", recompute=False)
    _, again = compile_step("v5litepod-4")
    assert 1.2 < again.flops / once.flops < 1.4
