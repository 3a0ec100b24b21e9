"""A build that is killed and run again ends with the same bytes.

`KILL_BUILD_SEEDS=30 python -m pytest tests/test_kill_build.py` tries that many
seeds of each kind.
"""

import multiprocessing
import os
import random
import signal
import time

import psutil
import pytest
import tensorflow as tf

from helpers import builds
from tfrecord_builders import build

pytestmark = pytest.mark.slow

NUM_SEEDS = int(os.environ.get("KILL_BUILD_SEEDS", "4"))
# Worker processes take seconds to start.
NUM_SEEDS_OF_WORKERS = max(1, NUM_SEEDS // 4)
MAX_WORKERS_KILLED = 2  # in one run: a unit may lose its worker twice


@pytest.fixture(scope="module")
def processes():
    """Builders are forked from a process that has loaded TensorFlow."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tfrecord_builders.building.pipeline"])
    return context


@pytest.fixture(scope="module")
def text(tmp_path_factory, processes):
    """A folder of text; `undisturbed` in it is the dataset built from it."""
    folder = str(tmp_path_factory.mktemp("text"))
    builds.write_vocabulary(f"{folder}/vocab.txt")
    builds.write_news(f"{folder}/news-1.jsonl", 150)
    builds.write_news(f"{folder}/news-2.jsonl", 150, seed=1)
    run(processes, config_of(folder, "undisturbed"))  # starts the server
    started = time.monotonic()
    run(processes, config_of(folder, "again"))
    return folder, time.monotonic() - started


def config_of(folder, name, num_workers=1):
    return builds.config_of(
        folder, name, num_workers, num_shards=4, dupe_factor=2
    )


def start(processes, config, target=build.main, arguments=()):
    process = processes.Process(target=target, args=(config, *arguments))
    process.start()
    return process


def run(processes, config):
    process = start(processes, config)
    process.join()
    assert process.exitcode == 0


def assert_undisturbed(folder, name):
    # `contents` fails on folders, so no folder of the build is left.
    expected = builds.contents(f"{folder}/undisturbed")
    assert builds.contents(f"{folder}/{name}") == expected
    assert "manifest.json" in expected


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_a_builder_killed_at_random_moments(seed, text, processes):
    folder, seconds = text
    rng = random.Random(seed)
    config = config_of(folder, f"moments-{seed}")
    num_killed = 0
    while True:
        builder = start(processes, config)
        builder.join(rng.uniform(0, seconds))
        if builder.exitcode is not None:
            assert builder.exitcode == 0
            break
        builder.kill()
        builder.join()
        num_killed += 1
    print(f"seed {seed}: killed {num_killed} times")
    assert_undisturbed(folder, f"moments-{seed}")


def build_and_die(config, number, is_before):
    """Builds, and is killed when file number `number` appears."""
    rename, num_renamed = tf.io.gfile.rename, 0

    def rename_or_die(*arguments, **options):
        nonlocal num_renamed
        num_renamed += 1
        if num_renamed == number and is_before:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*arguments, **options)
        if num_renamed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    tf.io.gfile.rename = rename_or_die
    build.main(config)


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_a_builder_killed_as_a_file_appears(seed, text, processes):
    folder, _ = text
    rng = random.Random(seed)
    config = config_of(folder, f"files-{seed}")
    # A whole build writes some 70 files. Each run continues after the last.
    for _ in range(3):
        arguments = rng.randint(1, 30), rng.random() < 0.5
        builder = start(processes, config, build_and_die, arguments)
        builder.join()
        assert builder.exitcode in (-signal.SIGKILL, 0)
    run(processes, config)
    assert_undisturbed(folder, f"files-{seed}")


@pytest.mark.parametrize("seed", range(NUM_SEEDS_OF_WORKERS))
def test_workers_and_their_builder_killed_at_random_moments(
    seed, text, processes
):
    folder, seconds = text
    rng = random.Random(seed)
    config = config_of(folder, f"workers-{seed}", num_workers=2)
    killed, seen = [], set()
    for is_builder_to_die in (True, False):
        builder = start(processes, config)
        num_workers_to_kill = rng.randint(1, MAX_WORKERS_KILLED)
        while builder.exitcode is None:
            # Mostly while units run, sometimes earlier. Starting takes far
            # longer than the units.
            if rng.random() < 0.8:
                wait_for_more_files(config.output_dir, builder)
            builder.join(rng.uniform(0, seconds))
            workers = workers_of(builder.pid)
            seen.update(workers)
            if workers and num_workers_to_kill:
                num_workers_to_kill -= 1
                kill(rng.choice(workers))
                killed.append("worker")
            elif is_builder_to_die:
                kill(builder.pid)
                killed.append("builder")
                break
            else:
                builder.join()
        builder.join()
        if builder.exitcode == 0:
            break
        # No pause: workers without their builder may still be running.
        assert builder.exitcode == -signal.SIGKILL
    print(f"seed {seed}: killed {', '.join(killed)}")
    assert_undisturbed(folder, f"workers-{seed}")
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, seen)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, seen))


def wait_for_more_files(folder, builder):
    before = count_files(folder)
    while builder.exitcode is None and count_files(folder) == before:
        builder.join(0.01)


def count_files(folder):
    """The number of files from units, without those of the builder itself."""
    return sum(
        len(names)
        for base, _, names in os.walk(folder)
        if base != f"{folder}/work"
    )


def workers_of(pid):
    try:
        return [
            child.pid
            for child in psutil.Process(pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
