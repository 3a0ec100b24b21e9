"""The workers of a pod: real processes on this machine."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time


class Workers:
    """`python -m bert_pretrain.worker`, one for each host of a pod.

    Use it as a context manager.
    """

    def __init__(self, num_hosts, folder, num_cpus=1):
        """Takes a folder for the workers' output."""
        self._num_cpus = num_cpus
        self._folder = pathlib.Path(folder)
        self.ports = free_ports(num_hosts)
        self._processes = {}

    @property
    def tpu(self):
        """The value of --tpu."""
        return "grpc://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def __enter__(self):
        for task in range(len(self.ports)):
            self.start(task)
        self.wait()
        return self

    def __exit__(self, *_):
        for process in self._processes.values():
            process.kill()
            process.wait()

    def start(self, task):
        """Starts the worker of a host."""
        with (self._folder / f"worker-{task}.log").open("ab") as log:
            self._processes[task] = subprocess.Popen(
                [
                    *[sys.executable, "-m", "bert_pretrain.worker"],
                    f"--port={self.ports[task]}",
                    f"--num_cpus={self._num_cpus}",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )

    def wait(self):
        """Waits until all workers accept connections."""
        end = time.monotonic() + 120
        for task, port in enumerate(self.ports):
            while True:
                assert time.monotonic() < end, self.output(task)
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)

    def kill(self, task):
        """Ends a worker as a power cut does."""
        self._processes[task].kill()
        self._processes[task].wait()

    def freeze(self, task):
        """Lets a worker hang."""
        self._processes[task].send_signal(signal.SIGSTOP)

    def end(self, task):
        """Asks a worker to end, and returns its exit code."""
        self._processes[task].terminate()
        return self._processes[task].wait(20)

    def loaded(self, task):
        """The files that a worker has loaded, such as libraries."""
        return pathlib.Path(
            f"/proc/{self._processes[task].pid}/maps"
        ).read_text()

    def output(self, task):
        return (self._folder / f"worker-{task}.log").read_text()


def free_ports(number):
    """TCP ports of this machine that nobody uses now."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
