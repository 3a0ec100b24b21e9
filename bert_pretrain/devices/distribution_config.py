"""Options of the devices that compute."""

import dataclasses
from typing import Literal

from bert_pretrain import options


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributionConfig(options.Options):
    """The devices and the precision of the computation."""

    tpu: str = options.option(
        "local (on a TPU machine), a TPU's name, or "
        "grpc://address:8470,…; if not given: all GPUs, or the CPU if there "
        "is no GPU.",
        "",
        changes_result=False,
    )
    num_cpu_replicas: int = options.option(
        "Replicas on the CPU if there is no accelerator. Several replicas "
        "are for tests of distributed training; they are not faster.",
        1,
        changes_result=False,
        at_least=1,
    )
    precision: Literal["float32", "bfloat16"] = options.option(
        "Precision of matrix products and hidden states. Variables, "
        "LayerNorm, loss and optimizer are always float32.",
        "float32",
    )
