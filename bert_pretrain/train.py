"""Trains a BERT on a dataset of masked records; run again, it resumes.

python -m bert_pretrain.train --data_dir=… --model_dir=… --total_steps=…

Exit codes:
    0    the run is complete
    2    a mistake in the options or the files; one line says what to do
    3    updates failed again and again; a line says what to check
    4    the run is over, but its weights are of no use; a line says why
    75   start me again: after SIGTERM or the notice of a preemption, for which
         the current loop is finished and saved, or after a pod lost a worker
    130  SIGINT: likewise, but somebody wanted the run to end
"""

from bert_pretrain import interruption

if __name__ == "__main__":
    interruption.listen()

# ruff: noqa: E402 (a signal may come while these are imported)
import sys
import typing
from collections.abc import Callable

from bert_pretrain import command_line
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.training import command

if typing.TYPE_CHECKING:
    from bert_pretrain.pretraining import run_report


def main(config: pretraining_config.TrainingConfig) -> int:
    """Trains, prints the results, and returns the exit code."""

    def work(raise_if_asked: Callable[[], None]) -> None:
        # Imported late: --help and a wrong flag do not wait for TensorFlow.
        from bert_pretrain.pretraining import pretraining

        results = pretraining.train(config, raise_if_asked)
        _print_results(config.saving.model_dir, results)

    return command.run(work, config.devices.tpu)


def _print_results(model_dir: str, results: "run_report.Results") -> None:
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.telemetry import console

    start = results.start
    rows = []
    for name, value in results.end.items():
        before = f"  (at the start {start[name]:.4f})" if start else ""
        rows.append((f"eval {name}", f"{value:.4f}{before}"))
    rows += [
        (
            "unigram entropy of the labels",
            f"{results.unigram_entropy:.4f} nats",
        ),
        ("steps", f"{results.step:,}"),
        ("time", console.format_duration(results.seconds)),
        ("examples/s", f"{results.examples_per_second:,.1f}"),
        ("tokens/s", f"{results.tokens_per_second:,.0f}"),
        ("peak memory", f"{results.peak_memory_bytes / 1e9:.2f} GB"),
        ("model directory", model_dir),
    ]
    console.print_table("Training is complete", rows, sys.stdout)


if __name__ == "__main__":
    interruption.survive_closed_console()
    command_line.run(main, pretraining_config.TrainingConfig)
