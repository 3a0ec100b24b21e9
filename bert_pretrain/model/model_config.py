"""Options of the architecture, of the first weights, and of adapters."""

import dataclasses
import re
from typing import Literal, get_args

from bert_pretrain import errors, options

# The dense layers of a layer, which LoRA can change.
Target = Literal[
    "query", "key", "value", "attention_output", "intermediate", "output"
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(options.Options):
    """The architecture, and the weights that training starts from."""

    model_size: Literal["tiny", "mini", "small", "medium", "base", "large"] = (
        options.option(
            "One of Google's BERT sizes, tiny (4 M parameters) to large "
            "(335 M); --bert_config and --init_from take precedence.",
            "base",
            changes_result=False,  # config.json is compared instead.
        )
    )
    bert_config: str = options.option(
        "A HuggingFace config.json with the architecture.",
        "",
        changes_result=False,  # config.json is compared instead.
    )
    init_from: str = options.option(
        "A HuggingFace checkpoint folder with the architecture and initial "
        "weights; its vocab.txt must be that of the records.",
        "",
    )
    hidden_dropout: float | None = options.option(
        "Dropout on hidden states; default: the architecture's (0.1).",
        None,
        at_least=0,
        below=1,
    )
    attention_dropout: float | None = options.option(
        "Dropout on attention probabilities; default: the architecture's "
        "(0.1).",
        None,
        at_least=0,
        below=1,
    )
    initializer_range: float | None = options.option(
        "Standard deviation of matrices that begin at random; default: the "
        "architecture's (0.02).",
        None,
        above=0,
        usual="BERT has 0.02",
    )
    positions: Literal["learned", "sinusoidal"] = options.option(
        "Position embeddings: learned, or fixed sines and cosines.", "learned"
    )
    initial_embeddings: Literal["random", "cooccurrence"] = options.option(
        "Word embeddings at the beginning: random, or vectors of the words "
        "that occur together in the training text, which take a minute to "
        "count and spare many steps.",
        "random",
    )
    freeze: str = options.option(
        "Weights that training does not change: a regular expression that is "
        r"searched in PyTorch's names, such as bert\.embeddings or "
        r"layer\.[0-3]\.",
        "",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bert_config and self.init_from:
            raise errors.UserError(
                f"--bert_config={self.bert_config} and "
                f"--init_from={self.init_from} both give the architecture; "
                "leave one out."
            )
        if self.positions != "learned" and self.init_from:
            raise errors.UserError(
                f"--positions={self.positions} and "
                f"--init_from={self.init_from} both give the position "
                "embeddings; leave one out."
            )
        if self.initial_embeddings != "random" and self.init_from:
            raise errors.UserError(
                f"--initial_embeddings={self.initial_embeddings} and "
                f"--init_from={self.init_from} both give the word embeddings; "
                "leave one out."
            )
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise errors.UserError(
                f"--freeze={self.freeze} is not a regular expression ({error})."
            ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig(options.Options):
    """Whether adapters are trained instead of the model, and their size."""

    adapter: Literal["none", "lora", "bottleneck"] = options.option(
        "Small matrices that are trained instead of the model's own weights.",
        "none",
    )
    lora_rank: int = options.option(
        "Rank of LoRA's matrices.", 8, at_least=1, usual="8 is usual"
    )
    lora_alpha: float = options.option(
        "LoRA's change of a kernel is multiplied by alpha / rank.",
        16.0,
        above=0,
        usual="twice the rank is usual",
    )
    lora_targets: tuple[Target, ...] = options.option(
        "Dense layers that LoRA changes.", ("query", "value")
    )
    bottleneck_size: int = options.option(
        "Inner size of the bottleneck adapters.",
        16,
        at_least=1,
        usual="16 to 64 are usual",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapter == "lora" and not self.lora_targets:
            raise errors.UserError(
                "--lora_targets is empty, so LoRA would change nothing; "
                f"give some of {', '.join(get_args(Target))}."
            )
