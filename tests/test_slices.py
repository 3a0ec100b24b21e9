"""Slices: the number of chips in a name, and libtpu's name for them."""

import math

import pytest

from bert_pretrain import errors
from bert_pretrain.compilation import slices


@pytest.mark.parametrize(
    "accelerator_type, topology, num_chips, num_replicas",
    [
        # https://docs.cloud.google.com/tpu/docs/{v2,v3,v4,v5e,v5p,v6e}
        ("v2-8", "v2:2x2", 4, 8),
        ("v2-512", "v2:16x16", 256, 512),
        ("v3-64", "v3:4x8", 32, 64),
        ("v3-2048", "v3:32x32", 1024, 2048),
        ("v4-8", "v4:2x2x1", 4, 4),
        ("v4-32", "v4:2x2x4", 16, 16),
        ("v4-512", "v4:4x8x8", 256, 256),
        ("v5litepod-1", "v5e:1x1", 1, 1),
        ("v5litepod-8", "v5e:2x4", 8, 8),
        ("v5e-32", "v5e:4x8", 32, 32),
        ("v5litepod-256", "v5e:16x16", 256, 256),
        ("v5p-8", "v5p:2x2x1", 4, 4),
        ("v5p-64", "v5p:2x4x4", 32, 32),
        ("v5p-384", "v5p:4x4x12", 192, 192),
        ("v5p-4096", "v5p:8x16x16", 2048, 2048),
        ("v5p-12288", "v5p:16x16x24", 6144, 6144),
        ("v6e-128", "v6e:8x16", 128, 128),
    ],
)
def test_a_slice_is_recognized_by_its_type(
    accelerator_type, topology, num_chips, num_replicas
):
    found = slices.find(accelerator_type)
    assert (found.topology, found.num_chips, found.num_replicas) == (
        topology,
        num_chips,
        num_replicas,
    )
    shape = map(int, topology.partition(":")[2].split("x"))
    assert math.prod(shape) == num_chips


@pytest.mark.parametrize(
    "accelerator_type, message",
    [
        ("v99-8", "not a kind of TPU"),
        ("v5litepod", "not a kind of TPU"),
        (
            "v5litepod-2",
            "no slice of 2 chips of TPU v5e; there are",
        ),
        ("v5e-512", "there are v5e-1, v5e-4"),
        ("v3-7", "no slice of 7 cores"),
        ("v4-0", "no slice of 0 cores"),
        ("v4-200", "multiples of 128 up to v4-8192"),
    ],
)
def test_a_slice_that_does_not_exist_is_refused(accelerator_type, message):
    with pytest.raises(errors.UserError, match=message) as caught:
        slices.find(accelerator_type)
    assert f"--accelerator_type={accelerator_type}" in str(caught.value)
