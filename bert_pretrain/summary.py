"""Prints what a run made, where it is, and what it reached.

    python -m bert_pretrain.summary --data_dir=… --model_dir=… --export_dir=…
"""


