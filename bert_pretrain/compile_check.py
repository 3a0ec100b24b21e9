"""Compiles a training step for TPUs that are not there: does it fit?

python -m bert_pretrain.compile_check --accelerator_type=v5litepod-8 \\
    --flagfile=… | --data_dir=… | --seq_length=… [options of a training]

The step is the trainer's, as one replica of the whole slice, and the compiler
is the TPU's own. Nothing is executed. The numbers for memory and work are
exact; the times that follow from them are bounds.

Exit codes:
    0    it fits
    2    an error in the options or the files, explained in one line
    3    it does not fit; the output says what to change
"""

import json
import sys

from bert_pretrain import command_line
from bert_pretrain.assessment import check_config

_DOES_NOT_FIT = 3


def main(config: check_config.CheckConfig) -> int:
    """Compiles, prints what the step needs, and returns the exit code."""
    # Imported late, so that --help need not wait for TensorFlow.
    from bert_pretrain import files
    from bert_pretrain.assessment import checking, findings_table

    report = checking.check(config)
    if config.json:
        print(json.dumps(files.finite_or_none(report.to_dict())))
    else:
        findings_table.print_report(report, sys.stdout)
    return 0 if report.fits else _DOES_NOT_FIT


if __name__ == "__main__":
    command_line.run(main, check_config.CheckConfig)
