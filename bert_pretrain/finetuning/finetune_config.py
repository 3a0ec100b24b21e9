"""Options of fine-tuning."""

import dataclasses
import re
from typing import Literal

from bert_pretrain import errors, options
from bert_pretrain.devices import distribution_config
from bert_pretrain.model import model_config
from bert_pretrain.tasks import task_config
from bert_pretrain.telemetry import telemetry_config
from bert_pretrain.training import training_config

_SEEDS = re.compile(r"\d+(,\d+)*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningConfig(options.Options):
    """How a task is learned."""

    num_epochs: float = options.option(
        "How often each training example is read.", 3.0, above=0
    )
    peak_learning_rate: float | None = options.option(
        "Learning rate at the end of warmup. Default: by the model's size, "
        "from 5e-4 for hidden states of 128 to 3e-5 for 768.",
        None,
        above=0,
    )
    warmup_fraction: float = options.option(
        "The share of the steps in which the rate rises.",
        0.1,
        at_least=0,
        below=1,
    )
    schedule: Literal["linear", "cosine", "constant"] = options.option(
        "How the rate falls after warmup.", "linear"
    )
    layer_rate_decay: float = options.option(
        "The rate of each layer is so many times that of the layer above it; "
        "1 for the same rate everywhere (Sun et al. 2019, section 5.3.3).",
        1.0,
        above=0,
        at_most=1,
    )
    num_reinitialized_layers: int = options.option(
        "So many top layers begin at random, as the head does (Zhang et al. "
        "2021, section 5).",
        0,
        at_least=0,
    )
    freeze: str = options.option(
        "Weights that do not learn: a regular expression that is searched in "
        r"PyTorch's names, such as bert\.embeddings, which helps with few "
        "labels.",
        "",
    )
    dropout: float = options.option(
        "Dropout on hidden states, attention probabilities and the head.",
        0.1,
        at_least=0,
        below=1,
    )
    class_weights: str = options.option(
        "How much each class counts: 'balanced' for the inverse of its "
        "frequency, or LABEL:WEIGHT,LABEL:WEIGHT; 1 for those left out.",
        "",
    )
    r_drop: float = options.option(
        "Weight of the difference between two passes with other dropout "
        "(R-Drop, Liang et al. 2021); each step then costs twice as much.",
        0.0,
        at_least=0,
    )
    temperature: float = options.option(
        "Divides the cosines of embeddings (SimCSE, Gao et al. 2021).",
        0.05,
        above=0,
    )
    augmented_copies: int = options.option(
        "So many copies of each training text, in which the pretrained model "
        "replaces words that fit (after Kobayashi 2018).",
        0,
        at_least=0,
    )
    augmented_fraction: float = options.option(
        "The share of words that are replaced in a copy.",
        0.15,
        above=0,
        below=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise errors.UserError(
                f"--freeze={self.freeze} is not a regular expression ({error})."
            ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig(options.Options):
    """Files, the model to begin with, and the runs."""

    init_from: str = options.option(
        "What to begin with: a model directory of bert_pretrain.train, an "
        "export, or any HuggingFace BERT."
    )
    from_scratch: bool = options.option(
        "Begin with random weights, for comparison; architecture and "
        "vocabulary are those of --init_from.",
        False,
    )
    train_file: str = options.option(
        "Labelled examples to learn: .tsv, .csv or .jsonl, also with .gz; "
        "CoNLL for tagging, SQuAD's .json for question answering.",
        changes_result=False,  # its contents do
    )
    dev_file: str = options.option(
        "Labelled examples that measure the model while it learns.",
        changes_result=False,  # its contents do
    )
    test_file: str = options.option(
        "Labelled examples that measure it once, at the end.",
        "",
        changes_result=False,
    )
    output_dir: str = options.option(
        "Folder for the models, their scores and predictions; the same "
        "command, run again, goes on.",
        changes_result=False,
    )
    seeds: str = options.option(
        "One run for each seed, such as 1,2,3: of the head, the order of "
        "examples, dropout, and the choice of --max_train_examples.",
        "1",
        changes_result=False,
    )
    max_train_examples: int = options.option(
        "Learn only so many examples, other ones for each seed; 0 for all.",
        0,
        at_least=0,
    )
    global_batch_size: int = options.option(
        "Examples in a step, on average: a step has whole rows, and a row "
        "several short texts.",
        32,
        at_least=1,
        at_most=training_config.MAX_BATCH,
    )
    accumulation_steps: int = options.option(
        "Microbatches that a replica divides its share of a batch into.",
        1,
        at_least=1,
        at_most=training_config.MAX_BATCH,
    )
    recompute: bool = options.option(
        "Keep only the values between layers: less memory, a third more time.",
        False,
    )
    steps_per_loop: int = options.option(
        "Steps between two lines of progress.",
        50,
        changes_result=False,
        at_least=1,
        at_most=training_config.MAX_STEPS,
    )
    eval_every_steps: int = options.option(
        "Steps between measurements on the dev file; 0 for one in each epoch.",
        0,
        changes_result=False,
        at_least=0,
    )
    early_stopping_patience: int = options.option(
        "Measurements in a row without a better score, after which a run ends "
        "and its best checkpoint is taken; 0 for never.",
        0,
        changes_result=False,
        at_least=0,
    )
    checkpoint: Literal["newest", "best"] = options.option(
        "Which weights are kept: the last ones, or those with the best score "
        "on the dev file. Early stopping always keeps the best.",
        "newest",
        changes_result=False,
    )
    checkpoint_every_steps: int = options.option(
        "Steps between checkpoints.",
        1000,
        changes_result=False,
        at_least=1,
    )
    allow_changed_options: bool = options.option(
        "Go on even if options that change the result differ from those that "
        "a run began with.",
        False,
        changes_result=False,
    )
    merge_adapter: bool = options.option(
        "Write LoRA merged into the model's own weights, as a plain "
        "HuggingFace model, and not alone.",
        False,
        changes_result=False,
    )
    what: task_config.TaskConfig = task_config.TaskConfig()
    learning: LearningConfig = LearningConfig()
    added: model_config.AdapterConfig = model_config.AdapterConfig()
    optimization: training_config.OptimizerConfig = (
        training_config.OptimizerConfig()
    )
    devices: distribution_config.DistributionConfig = (
        distribution_config.DistributionConfig()
    )
    failures: training_config.RecoveryConfig = training_config.RecoveryConfig()
    trace: telemetry_config.ProfilingConfig = telemetry_config.ProfilingConfig()
    tracking: telemetry_config.WandbConfig = telemetry_config.WandbConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _SEEDS.fullmatch(self.seeds):
            raise errors.UserError(
                f"--seeds={self.seeds}: give whole numbers with commas, such "
                "as 1,2,3."
            )
        numbers = self.seed_numbers
        if len(set(numbers)) < len(numbers) or max(numbers) >= 2**31:
            raise errors.UserError(
                f"--seeds={self.seeds}: give different numbers below 2**31."
            )
        if self.devices.tpu not in ("", "local"):
            raise errors.UserError(
                f"--tpu={self.devices.tpu}: fine-tuning reads its examples in "
                "its own process, so it runs on the TPU's machine; give "
                "--tpu=local there. Pods of several hosts cannot be used."
            )
        if self.learning.freeze and self.added.adapter != "none":
            raise errors.UserError(
                f"--freeze={self.learning.freeze} and --adapter="
                f"{self.added.adapter}: with adapters nothing else but the "
                "head learns; leave one out."
            )
        if self.optimization.optimizer != "adamw":
            if self.learning.layer_rate_decay != 1:
                raise errors.UserError(
                    f"--layer_rate_decay={self.learning.layer_rate_decay} "
                    "needs --optimizer=adamw."
                )

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(int(seed) for seed in self.seeds.split(","))
