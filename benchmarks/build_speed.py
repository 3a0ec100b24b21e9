"""Compares the builder with tf-models-official's create_pretraining_data.

    python benchmarks/build_speed.py                        # ratio to the peer
    python benchmarks/build_speed.py --measure=workers      # 2 workers or 1
    python benchmarks/build_speed.py --measure=memory --megabytes=1000

Both run as whole processes on the same text, with one sentence on each line
and the same vocabulary, and on the same core. The benchmark counts CPU
seconds, so other processes on the core do not matter. It measures the start-up
of a process on a text of a few lines and subtracts it. The programs take turns
in each round; our builder runs several times in a round. The benchmark prints
medians. The peer does not filter documents and does not look for near
duplicates, so our builder runs once without these steps and once with them.

The text consists of random sequences of sentences from real documents: from
the embedded sample, or from `--input`. So no document is a copy of another.
"""

import dataclasses
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Literal, NamedTuple

from bert_pretrain import command_line, options
from tfrecord_builders.sources import documents, sample
from tfrecord_builders.tokens import sentences

_SENTENCES_PER_DOCUMENT = 5, 60
# Options that switch off the steps that the peer does not have.
_SAME_WORK = "--filters=none", "--near_duplicate_threshold=0"
# The peer writes one file.
_ONE_FILE = "--num_shards=1"
# Runs in a round: our work takes less time than the start-up, so a single run
# would have more noise than signal.
_RUNS_OF_OURS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    measure: Literal["peer", "workers", "memory"] = options.option(
        "What to compare or show.", "peer"
    )
    input: str = options.option(
        "Text to draw sentences from, documents as blocks; default: the "
        "sample.",
        "",
    )
    vocab_file: str = options.option(
        "Vocabulary; default: 8,000 tokens, learned from the text.", ""
    )
    megabytes: float = options.option("Size of the input text.", 10.0, above=0)
    rounds: int = options.option("Number of rounds.", 3, at_least=1)
    seq_length: int = options.option("S.", 128, at_least=8)
    max_predictions_per_seq: int = options.option("P.", 20, at_least=1)
    masking: Literal["token", "whole_word"] = options.option(
        "Kind of masking; both programs have these two.", "token"
    )


def main(config: BenchmarkConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = _prepare(config, folder)
        print(
            f"{bench.num_bytes / 1e6:.1f} MB of text, S={config.seq_length}"
            f", P={config.max_predictions_per_seq}, NSP pairs, "
            f"{config.masking} masking, dupe 1"
        )
        {
            "peer": _compare_with_peer,
            "workers": _compare_workers,
            "memory": _show_memory,
        }[config.measure](bench)


@dataclasses.dataclass(frozen=True)
class Bench:
    """The text, the vocabulary, and the commands of both programs."""

    config: BenchmarkConfig
    folder: str
    vocab_file: str

    @property
    def num_bytes(self):
        return os.path.getsize(f"{self.folder}/text.txt")

    def ours(self, text, num_workers, *more):
        return [
            sys.executable,
            "-m",
            "tfrecord_builders.build",
            "--source=text",
            f"--input={self.folder}/{text}",
            "--text_layout=blocks",
            f"--vocab_file={self.vocab_file}",
            f"--output_dir={self.folder}/dataset",
            f"--num_workers={num_workers}",
            f"--seq_length={self.config.seq_length}",
            "--pairing=nsp",
            f"--max_predictions_per_seq={self.config.max_predictions_per_seq}",
            f"--masking={self.config.masking}",
            "--eval_fraction=0",
            "--test_fraction=0",
            "--min_document_chars=1",
            *more,
        ]

    def theirs(self, text):
        return [
            sys.executable,
            "-m",
            "official.nlp.data.create_pretraining_data",
            f"--input_file={self.folder}/{text}",
            f"--output_file={self.folder}/theirs.tfrecord",
            f"--vocab_file={self.vocab_file}",
            "--do_lower_case=true",
            f"--max_seq_length={self.config.seq_length}",
            f"--max_predictions_per_seq={self.config.max_predictions_per_seq}",
            f"--do_whole_word_mask={self.config.masking == 'whole_word'}",
            "--dupe_factor=1",
        ]

    def run(self, command, cores):
        """Runs a command on the given cores and returns its `Run`."""
        shutil.rmtree(f"{self.folder}/dataset", ignore_errors=True)
        started, used = time.monotonic(), _cpu_seconds_of_children()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return Run(
            time.monotonic() - started,
            _cpu_seconds_of_children() - used,
            done.stdout,
        )


class Run(NamedTuple):
    """Times and output of one command."""

    wall_seconds: float
    cpu_seconds: float
    output: str


def _cpu_seconds_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _prepare(config, folder):
    if config.input:
        real = _read("text", config.input, "blocks")
    else:
        sample.fetch(f"{folder}/sample")
        real = _read(
            "wikipedia", f"{folder}/sample/enwiki-sample.xml.bz2", "blocks"
        )
        real += _read("text", f"{folder}/sample/lee-news.txt", "line")
    _write_text(real, f"{folder}/text.txt", int(config.megabytes * 1e6))
    _write_text(real, f"{folder}/few.txt", 20_000)
    vocab_file = config.vocab_file
    if not vocab_file:
        vocab_file = f"{folder}/vocab.txt"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "tfrecord_builders.learn_vocabulary",
                "--source=text",
                f"--input={folder}/text.txt",
                "--max_sample_mb=5",
                "--vocab_size=8000",
                f"--output_file={vocab_file}",
            ],
            check=True,
            capture_output=True,
        )
    return Bench(config, folder, vocab_file)


def _read(source, pattern, layout):
    """Reads documents as lists of sentences."""
    config = documents.SourceConfig(
        source=(source,), input=(pattern,), text_layout=layout
    )
    return [
        sentences.split(item.text)
        for unit in documents.plan(config, 1 << 30)
        for span in unit
        for item, _ in documents.read(span, config)
        if isinstance(item, documents.Document)
    ]


def _write_text(real, path, num_bytes):
    """Writes documents that consist of sentences of real documents."""
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        while file.tell() < num_bytes:
            wanted = rng.randint(*_SENTENCES_PER_DOCUMENT)
            lines: list[str] = []
            while len(lines) < wanted:
                document = rng.choice(real)
                start = rng.randrange(len(document))
                lines += document[start : start + rng.randint(1, 8)]
            file.write("\n".join(lines) + "\n\n")


def _compare_with_peer(bench):
    core = {max(os.sched_getaffinity(0))}
    commands = {
        "peer": bench.theirs,
        "ours, same work": lambda text: bench.ours(
            text, 1, _ONE_FILE, *_SAME_WORK
        ),
        "ours, default": lambda text: bench.ours(text, 1, _ONE_FILE),
    }
    whole: dict[str, list[float]] = {name: [] for name in commands}
    start_up: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(bench.config.rounds):
        for name, command in commands.items():
            for _ in range(1 if name == "peer" else _RUNS_OF_OURS):
                run = bench.run(command("text.txt"), core)
                whole[name].append(run.cpu_seconds)
                start_up[name].append(
                    bench.run(command("few.txt"), core).cpu_seconds
                )
                print(
                    f"  round {number + 1}: {name} {whole[name][-1]:.1f} s, "
                    f"start-up {start_up[name][-1]:.1f} s",
                    flush=True,
                )
    (stages,) = re.findall(r"\((extract .*)\)", run.output)
    print(f"ours, default, wall time of the last round: {stages}")
    megabytes = bench.num_bytes / 1e6
    work = {}
    print(f"{'':16}{'start-up s':>12}{'work s':>10}{'MB/s':>10}{'ratio':>8}")
    for name in commands:
        start = statistics.median(start_up[name])
        work[name] = statistics.median(whole[name]) - start
        print(
            f"{name:16}{start:12.1f}{work[name]:10.2f}"
            f"{megabytes / work[name]:10.2f}"
            f"{work['peer'] / work[name]:8.1f}"
        )


def _compare_workers(bench):
    """Compares the wall time for all the text after its first third.

    The time for the first third contains the start-up and is subtracted. A
    few lines are not enough for that: they do not start all workers at once.
    """
    cores = os.sched_getaffinity(0)
    _take_third(f"{bench.folder}/text.txt", f"{bench.folder}/third.txt")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(bench.config.rounds):
        for num_workers, values in seconds.items():
            whole, third = (
                bench.run(bench.ours(name, num_workers), cores).wall_seconds
                for name in ("text.txt", "third.txt")
            )
            values.append(whole - third)
    megabytes = bench.num_bytes / 1e6 * 2 / 3
    medians = {n: statistics.median(values) for n, values in seconds.items()}
    for n, value in medians.items():
        print(
            f"{n} worker{'s' if n > 1 else ''}: {megabytes / value:.2f} MB/s "
            f"(rounds: {', '.join(f'{v:.1f} s' for v in seconds[n])})"
        )
    print(f"ratio: {medians[1] / medians[2]:.2f}")


def _take_third(path, third_path):
    with open(path, "rb") as file:
        content = file.read(os.path.getsize(path) // 3)
    with open(third_path, "wb") as file:
        file.write(content[: content.rindex(b"\n\n") + 2])


def _show_memory(bench):
    cores = os.sched_getaffinity(0)
    seconds = bench.run(bench.ours("text.txt", 2), cores).wall_seconds
    # The peak of the largest process: the builder or one of its workers.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(
        f"{bench.num_bytes / 1e9:.2f} GB in {seconds:.0f} s with 2 workers: "
        f"{bench.num_bytes / 1e6 / seconds:.2f} MB/s; peak memory of the "
        f"largest process {peak / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    command_line.run(main, BenchmarkConfig)
