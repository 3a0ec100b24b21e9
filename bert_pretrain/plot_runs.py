"""Draws the curves of runs, finished or not, as a PNG.

    python -m bert_pretrain.plot_runs --model_dir=A --output_file=run.png
    python -m bert_pretrain.plot_runs --model_dir=A --model_dir=B \\
        --output_file=runs.png

Of one run it shows what was trained and held out; several runs are drawn side
by side.
"""

import dataclasses

from bert_pretrain import command_line, errors, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlotConfig(options.Options):
    """Which runs to draw, and where to."""

    model_dir: tuple[str, ...] = options.option(
        "Folder of a training run; give it once for each run."
    )
    output_file: str = options.option("The PNG to write.")

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.model_dir)) < len(self.model_dir):
            raise errors.UserError(
                f"--model_dir={','.join(self.model_dir)} names a run twice; "
                "give each run once."
            )


def main(config: PlotConfig) -> None:
    """Reads the logs, draws them and says what was drawn."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.telemetry import curves

    runs = curves.read(config.model_dir)
    curves.write_png(curves.draw(runs), config.output_file)
    if len(runs) == 1:
        drawn = f"{runs[0].records[-1]['step']:,} steps"
    else:
        drawn = f"{len(runs)} runs"
    print(f"{drawn} drawn: {config.output_file}")


if __name__ == "__main__":
    command_line.run(main, PlotConfig)
