"""The datasets and the model directory of a run, and how they fit its hosts."""

import itertools
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf
import transformers

from bert_pretrain import storage_probe
from bert_pretrain.checkpoints import checkpoint_files
from bert_pretrain.data import input_pipeline, manifests, records
from bert_pretrain.devices import distribution
from bert_pretrain.diagnosis import check
from bert_pretrain.pretraining import phases

# The first batch opens files and fills buffers; the time is of these.
_NUM_BATCHES = 20


def examine_directory(
    name: str, directory: str, is_pod: bool
) -> Iterator[check.Result]:
    """Whether files can be written and read there."""
    if is_pod and "://" not in directory:
        yield check.warning(
            name,
            f"{directory} must be on a file system that all hosts share",
            "use gs://",
        )
    probe = storage_probe.probe(directory)
    seconds = ", ".join(
        f"{operation} {1000 * value:.0f} ms"
        for operation, value in probe.seconds.items()
    )
    account = f" as {probe.account}" if probe.account else ""
    yield check.ok(name, f"{directory} is written and read{account}: {seconds}")
    if steps := checkpoint_files.list_steps(directory):
        yield check.ok(name, f"the run goes on from step {max(steps):,}")


def examine_dataset(
    plan: Sequence[phases.Phase], is_pod: bool
) -> Iterator[check.Result]:
    """Manifest, shards and vocabulary of each dataset of a run."""
    for data_dir, manifest in _datasets(plan).items():
        manifests.check_dataset(data_dir, manifest)
        train = manifest.splits[records.TRAIN]
        yield check.ok(
            "dataset",
            f"{data_dir}: {train.num_examples:,} rows of "
            f"{manifest.seq_length} tokens in {len(train.shards)} shards, "
            f"vocabulary of {manifest.vocab_size:,}",
        )
        if is_pod and "://" not in data_dir:
            yield check.warning(
                "dataset",
                f"{data_dir} must be on a file system that all hosts share",
                "use gs://",
            )


def examine_shards(
    plan: Sequence[phases.Phase], num_hosts: int
) -> Iterator[check.Result]:
    """Whether each host gets the same number of streams."""
    for manifest in _datasets(plan).values():
        num_shards = len(manifest.splits[records.TRAIN].shards)
        input_pipeline.check_shards(num_shards, num_hosts)
        yield check.ok(
            "shards", f"{num_shards} training shards for {num_hosts} hosts"
        )


def examine_batch(
    plan: Sequence[phases.Phase], num_replicas: int
) -> Iterator[check.Result]:
    """Whether each batch can be divided among the replicas."""
    for phase in plan:
        distribution.check_batch(
            phase.global_batch_size, num_replicas, phase.accumulation_steps
        )
        rows = phase.global_batch_size // num_replicas
        yield check.ok(
            "batch",
            f"{phase.global_batch_size:,} rows: {rows:,} for each of "
            f"{num_replicas} replicas, in {phase.accumulation_steps} parts",
        )


def examine_input(
    phase: phases.Phase, seed: int, limit_seconds: float = 30
) -> Iterator[check.Result]:
    """The time to fetch a batch, on this machine alone."""
    size = phase.global_batch_size
    batches = iter(
        input_pipeline.train_batches(
            tf.distribute.get_strategy(),
            phase.data_dir,
            phase.manifest,
            size,
            seed,
            range((_NUM_BATCHES + 1) * size),
            phase.masking,
        )
    )
    first_started = time.perf_counter()
    with input_pipeline.naming_failures(phase.data_dir, phase.manifest):
        next(batches)
        started = time.perf_counter()
        num_batches = 0
        for _ in itertools.islice(batches, _NUM_BATCHES):
            num_batches += 1
            if time.perf_counter() - started > limit_seconds:
                break
    seconds = (time.perf_counter() - started) / max(num_batches, 1)
    yield check.ok(
        "input",
        f"a batch of {size:,} is fetched in {1000 * seconds:.1f} ms "
        f"({size / max(seconds, 1e-9):,.0f} rows/s), the first one in "
        f"{started - first_started:.1f} s",
    )


def num_parameters(
    bert_config: transformers.BertConfig, has_pairs: bool
) -> int:
    """Numbers in the weights of a BERT for pretraining."""
    hidden, inner = bert_config.hidden_size, bert_config.intermediate_size
    norm = 2 * hidden
    embeddings = norm + hidden * (
        bert_config.vocab_size
        + bert_config.max_position_embeddings
        + bert_config.type_vocab_size
    )
    attention = 4 * (hidden + 1) * hidden + norm
    feed_forward = 2 * hidden * inner + inner + hidden + norm
    head = (hidden + 1) * hidden + norm + bert_config.vocab_size
    pairs = (hidden + 1) * hidden + 2 * (hidden + 1) if has_pairs else 0
    layers = bert_config.num_hidden_layers * (attention + feed_forward)
    return embeddings + layers + head + pairs


def _datasets(
    plan: Sequence[phases.Phase],
) -> dict[str, manifests.Manifest]:
    return {phase.data_dir: phase.manifest for phase in plan}
