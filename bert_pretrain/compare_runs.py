"""Draws the curves of several runs side by side, as a PNG.

python -m bert_pretrain.compare_runs --model_dir=A --model_dir=B \
    --output_file=runs.png
"""

import dataclasses

from bert_pretrain import curves, errors, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig(options.Options):
    model_dir: tuple[str, ...] = options.option(
        "Folder of a training run; give it once for each run."
    )
    output_file: str = options.option("The PNG to write.")

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.model_dir)) < max(2, len(self.model_dir)):
            raise errors.UserError(
                f"--model_dir={','.join(self.model_dir)} must name at least "
                "two runs, each once."
            )


def main(config):
    runs = curves.read(config.model_dir)
    curves.write_png(curves.draw(runs), config.output_file)
    print(f"{len(runs)} runs drawn: {config.output_file}")


if __name__ == "__main__":
    options.run(main, CompareConfig)
