"""Examines a run before it costs money: a line for each check.

python -m bert_pretrain.doctor --tpu=local --flagfile=… --data_dir=… …

It takes the options of bert_pretrain.train. With --accelerator_type, it also
compiles the step for that TPU, on any machine, in minutes.

Exit codes:
    0    no error; warnings say what could be better
    1    an error, so that the run would fail; its line has the remedy
    2    a mistake in the options, explained in one line
"""

import json
import sys

from bert_pretrain import command_line
from bert_pretrain.diagnosis import doctor_config

_ILL = 1


def main(config: doctor_config.DoctorConfig) -> int:
    """Examines the run, prints the results, and returns the exit code."""
    # Imported late: --help and a wrong flag do not wait for psutil.
    from bert_pretrain.diagnosis import examination

    if config.json:
        found = examination.examine(config)
        print(json.dumps(found.to_dict()))
    else:
        found = examination.examine(
            config, lambda result: print(result.line(), flush=True)
        )
        counts = [
            sum(r.level == level for r in found.results)
            for level in ("warning", "error")
        ]
        print("{} warnings, {} errors".format(*counts), file=sys.stderr)
    return _ILL if found.has_errors else 0


if __name__ == "__main__":
    command_line.run(main, doctor_config.DoctorConfig)
