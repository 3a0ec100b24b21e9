"""What Weights & Biases keeps of a run offline: records in its own files."""

import json
import pathlib
import struct
import time

from wandb.proto import wandb_internal_pb2


def read(model_dir):
    """(The run, step to its values) of each process, in order."""
    found = []
    for path in sorted(pathlib.Path(model_dir).glob("wandb/offline-*/*.wandb")):
        run, history = None, {}
        for message in _wait_for_records(path):
            if message.HasField("run"):
                run = message.run
            if message.HasField("history"):
                values = {
                    item.key or item.nested_key[0]: json.loads(item.value_json)
                    for item in message.history.item
                }
                history[message.history.step.num] = {
                    k: v for k, v in values.items() if k[0] != "_"
                }
        found.append((run, history))
    return found


def _wait_for_records(path):
    """All records of a run that has ended: W&B's own process writes them."""
    end = time.monotonic() + 30
    while True:
        messages = list(_records_of(path.read_bytes()))
        if any(message.HasField("exit") for message in messages):
            return messages
        assert time.monotonic() < end, f"{path} has no end"
        time.sleep(0.05)


def _records_of(content):
    """W&B's records: LevelDB's log format after a header of seven bytes."""
    position, pieces = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        size, kind = struct.unpack_from("<HB", content, position + 4)
        if position + 7 + size > len(content):
            return  # The last record is not written to its end yet.
        pieces += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # A whole record, or the last of its pieces.
            message = wandb_internal_pb2.Record()
            message.ParseFromString(pieces)
            pieces = b""
            yield message
