"""Programs in forks of a process that has imported what they need.

The import of TensorFlow takes longer than a small program.
"""

import json
import re
import subprocess
import sys

# TensorFlow 2.18 prints these lines when it is imported, and has no switch for
# them.
_OF_TENSORFLOW_2_18 = re.compile(
    r"^(?:WARNING: All log messages before absl::Init.*"
    r"|E0000 .*Unable to register cu.*)\n",
    re.M,
)


def own_lines(output):
    """What a program printed, without what an import of TensorFlow prints."""
    return _OF_TENSORFLOW_2_18.sub("", output)


# A line of JSON on the input runs the module and prints its exit code.
_SERVER = """
import importlib, json, os, runpy, sys
name, *libraries = sys.argv[1:]
for module in [name, *libraries]:
    importlib.import_module(module)
print("ready", flush=True)
for line in sys.stdin:
    arguments, *paths = json.loads(line)
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    for number, path in enumerate(paths):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [name, *arguments]
    del sys.modules[name]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    sys.exit()
"""


class Program:
    """`python -m module`, as often as asked, with one import.

    Use it as a context manager; `folder` is for its output.
    """

    def __init__(self, module, folder, *libraries):
        """Takes the modules that the program imports late."""
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, module, *libraries],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, *arguments):
        """Runs the program to its end, as `subprocess.run` does."""
        out, err = self._folder / "stdout", self._folder / "stderr"
        files = ["/dev/null", str(out), str(err)]
        self._process.stdin.write(json.dumps([arguments, *files]) + "\n")
        self._process.stdin.flush()
        return subprocess.CompletedProcess(
            arguments, int(self._answer()), out.read_text(), err.read_text()
        )

    def _answer(self):
        return self._process.stdout.readline().strip()
