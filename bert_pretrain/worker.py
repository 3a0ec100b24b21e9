"""Serves one host of a TPU pod to the coordinator, which runs the training.

python -m bert_pretrain.worker --port=8470

Start it on every host of the pod, with libtpu's variables. The coordinator gets
the addresses of all workers, --tpu=grpc://host0:8470,host1:8470. A worker needs
nothing but TensorFlow; it serves one run after another until it gets SIGTERM.

Machines with Google's image of a pod have such a worker (docs/cloud.md).
"""

import dataclasses
import os
import signal
import sys

from bert_pretrain import command_line, options

# A coordinator installs a handler in its workers that only notes SIGTERM. A
# blocked signal goes to no handler, but to `sigwait`. Threads inherit the mask,
# so it is set before TensorFlow starts any.
_ENDING = {signal.SIGTERM, signal.SIGINT}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerConfig(options.Options):
    """Where a worker serves."""

    port: int = options.option(
        "TCP port to serve at.", 8470, at_least=1, at_most=65535
    )
    num_cpus: int = options.option(
        "Logical CPUs, one for each replica that this host has in a rehearsal "
        "without TPUs.",
        1,
        at_least=1,
        at_most=64,
    )


def main(config: WorkerConfig) -> int:
    """Serves until a signal comes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    import tensorflow as tf

    from bert_pretrain import errors

    try:
        # The coordinator tells a worker its place in the cluster.
        server = tf.distribute.Server(
            {"worker": [f"localhost:{config.port}"]},
            job_name="worker",
            task_index=0,
            protocol="grpc",
            config=tf.compat.v1.ConfigProto(
                device_count={"CPU": config.num_cpus}
            ),
        )
    except tf.errors.OpError as error:
        raise errors.UserError(
            f"--port={config.port}: {error.message.splitlines()[0]}; end the "
            "program that serves there, or give another port."
        ) from error
    print(f"Serving at {server.target}", flush=True)
    signal.sigwait(_ENDING)
    print("Ended.", file=sys.stderr, flush=True)
    # The server's threads have no end of their own.
    os._exit(0)


if __name__ == "__main__":
    command_line.run(main, WorkerConfig)
