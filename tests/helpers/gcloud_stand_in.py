"""A stand-in for gcloud: a small Cloud TPU API whose world is a folder.

It knows the commands and flags that `launch/` uses, as the SDK 528's --help
lists them, and refuses others. A host of a TPU is a folder, its home folder.
`ssh` lets bash run the command there, so quoting, processes, exit codes and
files are real. Python, pip, sudo and systemctl of a host are stand-ins too
(`vm_stand_in.py`).

The folder ($STAND_IN_WORLD) holds

    scenario.json   what happens; see `play`, and vm_stand_in.py
    state.json      the TPUs that exist, and counters
    calls.jsonl     the arguments of each call
    vms/NAME/0      the home folder of host 0
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

WORLD = pathlib.Path(os.environ["STAND_IN_WORLD"])
VM_STAND_IN = pathlib.Path(__file__).with_name("vm_stand_in.py")
# All flags that the SDK's commands are given, beside --zone, --project and
# --quiet.
FLAGS = {
    "tpu-vm create": {
        "accelerator-type",
        "version",
        "spot",
        "service-account",
    },
    "tpu-vm describe": {"format"},
    "tpu-vm delete": set(),
    "tpu-vm ssh": {"worker", "command", "ssh-flag"},
    "tpu-vm scp": {"worker", "scp-flag"},
    "queued-resources create": {
        "node-id",
        "accelerator-type",
        "runtime-version",
        "spot",
        "service-account",
        "valid-until-duration",
    },
    "queued-resources describe": {"format"},
    "queued-resources delete": {"force"},
}
WIDE_FLAGS = {"zone", "project", "quiet"}
SWITCHES = {"spot", "force", "quiet"}
REPEATED = {"ssh-flag", "scp-flag"}

# The words for no capacity and for an internal error are from users' reports;
# the others are made up, in gcloud's form.
FAILURES = {
    "no_capacity": '{\n  "code": 8,\n  "message": "There is no more capacity '
    'in the zone \\"us-west4-a\\"; you can try in another zone where Cloud TPU '
    'Nodes are offered (see https://cloud.google.com/tpu/docs/regions)"\n}',
    "quota": "RESOURCE_EXHAUSTED: Quota limit "
    "'TPUV5sLitepodPerProjectPerZone' has been exceeded. Limit: 0 in zone.",
    "permission": "PERMISSION_DENIED: Permission 'tpu.nodes.create' denied on "
    "'projects/p/locations/us-west4-a'",
    "invalid": "INVALID_ARGUMENT: Cloud TPU received an invalid "
    "AcceleratorType",
    "internal": '{\n  "code": 13,\n  "message": "an internal error has '
    'occurred"\n}',
    "unreachable": "There was a problem: HTTPSConnectionPool("
    "host='tpu.googleapis.com', port=443): Max retries exceeded with url",
    "key": "me@10.0.0.2: Permission denied (publickey).\n[/usr/bin/ssh] exited "
    "with return code [255].",
    "ssh": "[/usr/bin/ssh] exited with return code [255].",
}


def main(arguments):
    with open(WORLD / "calls.jsonl", "a") as log:
        log.write(json.dumps(arguments) + "\n")
    assert arguments[:2] == ["compute", "tpus"], arguments
    verb = " ".join(arguments[2:4])
    names, flags = parse(verb, arguments[4:])
    with locked_state() as state:
        failure = play(verb, state)
    if failure:
        fail(verb, FAILURES[failure], code=1)
    group, action = verb.split()
    if action in ("ssh", "scp"):
        # Not locked: they may last, and other commands go on meanwhile.
        host_command(action, verb, names, flags)
    else:
        with locked_state() as state:
            collection = "nodes" if group == "tpu-vm" else "queues"
            ACTIONS[verb](state[collection], state, names[0], flags)


def parse(verb, arguments):
    """The names and the flags; exits with 2, as gcloud, for unknown ones."""
    names, flags = [], {}
    if verb not in FLAGS:
        fail(verb, "Invalid choice", code=2)
    for argument in arguments:
        if not argument.startswith("--"):
            names.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        if (
            name not in FLAGS[verb] | WIDE_FLAGS
            or (name in SWITCHES) == bool(equals)
            or (name in flags and name not in REPEATED)
        ):
            fail(verb, f"unrecognized arguments: {argument}", code=2)
        flags[name] = value
    if "zone" not in flags or "quiet" not in flags or not names:
        fail(verb, "would ask for what is missing", code=2)
    return names, flags


def fail(verb, message, code=1):
    command = f"gcloud.compute.tpus.{verb.replace(' ', '.')}"
    print(f"ERROR: ({command}) {message}", file=sys.stderr)
    sys.exit(code)


def not_found(verb, collection, name):
    fail(
        verb,
        f"NOT_FOUND: Resource 'projects/p/locations/us-west4-a/{collection}/"
        f"{name}' was not found",
    )


# ---------------------------------------------------------------- the world


@contextlib.contextmanager
def locked_state():
    """Yields the state; it is saved at the end, also of a failure."""
    with open(WORLD / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = WORLD / "state.json"
        state = {"nodes": {}, "queues": {}, "calls": {}}
        if path.exists():
            state = json.loads(path.read_text())
        try:
            yield state
        finally:
            # Whole, even if this process is killed: it plays the servers too.
            new = path.with_suffix(".new")
            new.write_text(json.dumps(state))
            new.rename(path)


def scenario():
    path = WORLD / "scenario.json"
    return json.loads(path.read_text()) if path.exists() else {}


def play(verb, state):
    """Lets the scenario's events of this call happen; returns its failure.

    An event {"call": "tpu-vm describe", "number": 3, "times": 2, …} is for the
    third and the fourth such call. `do` is a name in EVENTS, `fail` one in
    FAILURES. The file `now` names an event that happens at this call.
    """
    now = WORLD / "now"
    if now.exists():
        happen(now.read_text(), state)
        now.unlink()
    number = state["calls"][verb] = state["calls"].get(verb, 0) + 1
    for event in scenario().get("events", ()):
        first = event.get("number", 1)
        if event["call"] != verb or not (
            first <= number < first + event.get("times", 1)
        ):
            continue
        if "fail" in event:
            return event["fail"]
        happen(event["do"], state)
    return None


def happen(event, state):
    for name in list(state["nodes"]):
        EVENTS[event](state, name)


def preempt(state, name):
    """Takes the machine away: its processes and its disk are gone."""
    destroy(name)
    state["nodes"][name]["state"] = "PREEMPTED"
    if name in state["queues"]:
        state["queues"][name]["state"]["state"] = "SUSPENDED"


def vanish(state, name):
    destroy(name)
    del state["nodes"][name]
    if name in state["queues"]:
        state["queues"][name]["state"]["state"] = "SUSPENDED"


EVENTS = {"preempt": preempt, "vanish": vanish}


def destroy(name):
    """Kills the processes that run on the hosts, and removes their disks.

    They are those that have our mark in their environment.
    """
    mark = f"STAND_IN_VM={WORLD}/vms/{name}/".encode()
    found = True
    while found:
        found = False
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if any(
                    entry.startswith(mark)
                    for entry in path.read_bytes().split(b"\0")
                ):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    found = True
    shutil.rmtree(WORLD / "vms" / name, ignore_errors=True)


# ------------------------------------------------------------------ actions


def create_node(nodes, state, name, flags):
    if name in nodes:
        fail("tpu-vm create", f"ALREADY_EXISTS: Resource {name}")
    nodes[name] = node(flags["accelerator-type"], flags["version"])
    make_hosts(name)


def node(accelerator_type, image):
    addresses = [
        {"ipAddress": f"10.0.0.{host + 2}"} for host in range(num_hosts())
    ]
    return {
        "state": "READY",
        "health": "HEALTHY",
        "acceleratorType": accelerator_type,
        "runtimeVersion": image,
        "createTime": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "networkEndpoints": addresses,
    }


def num_hosts():
    return scenario().get("hosts", 1)


def make_hosts(name):
    destroy(name)
    for host in range(num_hosts()):
        home = WORLD / "vms" / name / str(host)
        (home / "bin").mkdir(parents=True)
        for program in ("python3", "sudo", "systemctl"):
            path = home / "bin" / program
            path.write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -S "{VM_STAND_IN}" '
                f'{program} "$@"\n'
            )
            path.chmod(0o755)


def describe(found, state, name, flags):
    if name not in found:
        verb = "tpu-vm describe"
        not_found(verb, "nodes", name)
    entry = found[name]
    if "waits" in entry:
        entry["waits"] -= 1
        if entry["waits"] < 0 and entry["state"]["state"] != "SUSPENDED":
            entry["state"]["state"] = "ACTIVE"
            if name not in state["nodes"]:
                state["nodes"][name] = node(*entry["node"])
                make_hosts(name)
    fields = re.fullmatch(r"value\((.*)\)", flags["format"]).group(1)
    print("\t".join(value(entry, field) for field in fields.split(",")))


def value(entry, field):
    """As `gcloud topic formats` says: a list's items are separated by `;`."""
    key, _, rest = field.partition(".")
    if key.endswith("[]"):
        return ";".join(value(item, rest) for item in entry[key[:-2]])
    found = entry.get(key, "")
    return value(found, rest) if rest else str(found)


def delete_node(nodes, state, name, flags):
    if name not in nodes:
        not_found("tpu-vm delete", "nodes", name)
    destroy(name)
    del nodes[name]


def create_queue(queues, state, name, flags):
    if name in queues:
        fail("queued-resources create", f"ALREADY_EXISTS: Resource {name}")
    queues[name] = {
        "state": {"state": "WAITING_FOR_RESOURCES"},
        "waits": scenario().get("waits", 2),
        "node": [flags["accelerator-type"], flags["runtime-version"]],
    }


def delete_queue(queues, state, name, flags):
    if name not in queues:
        not_found("queued-resources delete", "queuedResources", name)
    if name in state["nodes"]:
        assert "force" in flags
        delete_node(state["nodes"], state, name, {})
    del queues[name]


ACTIONS = {
    "tpu-vm create": create_node,
    "tpu-vm describe": describe,
    "tpu-vm delete": delete_node,
    "queued-resources create": create_queue,
    "queued-resources describe": describe,
    "queued-resources delete": delete_queue,
}


def host_command(action, verb, names, flags):
    with locked_state() as state:
        name = names[-1].removesuffix(":")
        if name not in state["nodes"]:
            not_found(verb, "nodes", name)
        status = state["nodes"][name]["state"]
    if status != "READY":
        fail(verb, f'This TPU has terminal state "{status}", so it cannot')
    hosts = [int(flags.get("worker", 0))] if flags["worker"] != "all" else None
    codes = []
    for host in hosts or range(num_hosts()):
        home = WORLD / "vms" / name / str(host)
        if action == "scp":
            for path in names[:-1]:
                shutil.copy(path, home)
        else:
            codes.append(on_host(home, flags["command"]))
    sys.exit(max(codes, default=0))


def on_host(home, command):
    """Lets bash run the command, as the sshd of the host would."""
    environment = {
        "HOME": str(home),
        "PATH": f"{home}/bin:/usr/local/bin:/usr/bin:/bin",
        "STAND_IN_WORLD": str(WORLD),
        "STAND_IN_VM": f"{home}/",
        "LANG": "C.UTF-8",
        **scenario().get("variables", {}),
    }
    # As for ssh, the call lasts until nobody writes to it any longer.
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    out, errors = process.communicate()
    sys.stdout.buffer.write(out)
    sys.stderr.buffer.write(errors)
    code = process.returncode
    return code if code >= 0 else 255


if __name__ == "__main__":
    main(sys.argv[1:])
