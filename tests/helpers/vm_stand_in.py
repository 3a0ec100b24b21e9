"""A stand-in for the programs of a TPU's host; see gcloud_stand_in.py.

`python3` installs nothing. It runs a module of this project only if the
scenario lists it under `real`, and then without a TPU: without --tpu and
without the variables that make TensorFlow load one. Else it plays the part
that the scenario's `programs` give it, one entry for each run (the last one
again and again):

    {"programs": {"bert_pretrain.train": [{"code": 75}, {"seconds": 1}]}}
"""

import fcntl
import json
import os
import pathlib
import socket
import sys
import time

WORLD = pathlib.Path(os.environ["STAND_IN_WORLD"])
ROOT = pathlib.Path(__file__).parent.parent.parent
TPU_VARIABLES = (
    "TPU_LIBRARY_PATH",
    "TF_PLUGGABLE_DEVICE_LIBRARY_PATH",
    "NEXT_PLUGGABLE_DEVICE_USE_C_API",
    "TPU_LOAD_LIBRARY",
)


def main(program, arguments):
    variables = {k: os.environ[k] for k in TPU_VARIABLES if k in os.environ}
    record([program, *arguments], variables)
    if program == "sudo":
        os.execvp(arguments[0], arguments)
    if program == "systemctl":
        # Only images for pods have the service.
        service = (
            "-pod-" in pathlib.Path.home().joinpath("machine.tsv").read_text()
        )
        if service and "restart" in arguments:
            serve_in_background()
        sys.exit(0 if service else 1)
    if arguments[0] == "-c":
        print("/stand-in/libtpu.so")
        return
    run_module(arguments[1], arguments[2:])


def record(command, variables):
    with open(WORLD / "commands.jsonl", "a") as log:
        entry = {
            "host": pathlib.Path.home().name,
            "command": command,
            "variables": variables,
        }
        log.write(json.dumps(entry) + "\n")


def run_module(module, arguments):
    scenario = json.loads((WORLD / "scenario.json").read_text())
    if module in scenario.get("real", ()):
        run_for_real(module, arguments)
    elif module == "uv":
        link = pathlib.Path(arguments[-1]) / "bin" / "python"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(pathlib.Path.home() / "bin" / "python3")
    else:
        part = next_part(module, scenario)
        if module == "bert_pretrain.worker":
            server = listen()  # noqa: F841 (open as long as it has a name)
        if "output" in part:
            print(part["output"], flush=True)
        time.sleep(part.get("seconds", 0))
        sys.exit(part.get("code", 0))


def next_part(module, scenario):
    parts = scenario.get("programs", {}).get(module, [{}])
    with open(WORLD / f"{module}.runs", "a+") as runs:
        fcntl.flock(runs, fcntl.LOCK_EX)
        runs.seek(0)
        number = len(runs.read())
        runs.write(".")
    return parts[min(number, len(parts) - 1)]


def run_for_real(module, arguments):
    for name in TPU_VARIABLES:
        os.environ.pop(name, None)
    # The working tree, not the commit that was copied.
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    arguments = [a for a in arguments if not a.startswith("--tpu=")]
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def listen():
    """Listens at port 8470. All hosts are one machine here and share it."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        server.bind(("127.0.0.1", 8470))
        server.listen()
    except OSError:
        pass  # Somebody else listens, which is as good.
    return server


def serve_in_background():
    if os.fork() == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.setsid()
        server = listen()
        time.sleep(20)
        server.close()
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
