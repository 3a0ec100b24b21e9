"""Draws the curves of a run, finished or not, as a PNG.

python -m bert_pretrain.plot_run --model_dir=… --output_file=run.png
"""

import dataclasses

from bert_pretrain import curves, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlotConfig(options.Options):
    model_dir: str = options.option("Folder of the training run.")
    output_file: str = options.option("The PNG to write.")


def main(config):
    (run,) = curves.read([config.model_dir])
    curves.write_png(curves.draw([run]), config.output_file)
    print(f"{run.records[-1]['step']:,} steps drawn: {config.output_file}")


if __name__ == "__main__":
    options.run(main, PlotConfig)
