"""Files appear whole or not at all, and errors name them."""

import errno
import fcntl
import gzip
import os
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from bert_pretrain import errors, file_errors, files, locks


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = f"{tmp_path}/file"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise RuntimeError
    assert files.read_text(path) == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("folder", ["{tmp_path}", "ram://test_files"])
def test_a_file_is_read_as_it_was_written(folder, tmp_path):
    path = f"{folder.format(tmp_path=tmp_path)}/a/b/file.json"
    value = {"b": [1, 2.5, "ä"], "a": None}
    files.write_json(path, value)
    assert files.read_json(path) == value
    assert files.size(path) == len(files.read_bytes(path))
    assert files.expand([path[:-9] + "*.json"]) == [path]


def test_a_full_disk_names_the_file(tmp_path):
    # The kernel gives /dev/full as a full disk.
    for path in ("/dev/full",):
        with pytest.raises(errors.UserError, match="/dev/full.*disk is full"):
            with file_errors.naming(path), open(path, "w") as file:
                file.write("x" * 100_000)
    with pytest.raises(errors.UserError, match="shard: the disk is full"):
        with file_errors.naming("shard"):
            raise tf.errors.ResourceExhaustedError(None, None, "no space")
    with pytest.raises(errors.UserError, match="shard: the disk is full"):
        with file_errors.naming("shard"):
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.UserError, match=f"{tmp_path}/none: no such"):
        files.read_text(f"{tmp_path}/none")


def test_text_that_is_not_utf_8_is_named_with_the_place(tmp_path):
    path = f"{tmp_path}/latin1"
    files.write_bytes(path, b"\ncaf\xe9 noir")
    with pytest.raises(
        errors.UserError,
        match=r"latin1: not UTF-8 at byte 4 \(0xe9\), in line 2",
    ):
        files.read_text(path)


def test_compressed_text_and_text_of_windows_are_read(tmp_path):
    path = f"{tmp_path}/x.gz"
    files.write_bytes(path, gzip.compress("\ufeffé\r\n".encode()))
    assert files.read_text(path) == "é\r\n"


def test_a_file_that_is_not_json_is_named(tmp_path):
    path = f"{tmp_path}/x.json"
    files.write_text(path, "{")
    with pytest.raises(errors.UserError, match=f"{path}: not JSON"):
        files.read_json(path)


def test_a_pattern_that_matches_nothing_is_named(tmp_path):
    with pytest.raises(errors.UserError, match=r"none\*' matches no file"):
        files.expand([f"{tmp_path}/none*"])


@pytest.mark.slow
def test_only_the_temporary_files_of_killed_writers_are_removed(tmp_path):
    for name in ("shard", "notes.tmp-old"):
        files.write_text(f"{tmp_path}/{name}", "text")
    program = textwrap.dedent(f"""
        import os, signal
        from bert_pretrain import files
        with files.replacing({str(tmp_path / "shard")!r}) as temporary:
            open(temporary, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    subprocess.run([sys.executable, "-c", program])
    assert len(os.listdir(tmp_path)) == 3
    files.remove_temporary_files(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["notes.tmp-old", "shard"]


def test_two_writers_of_a_path_do_not_disturb_each_other(tmp_path):
    path = f"{tmp_path}/file"
    with files.replacing(path) as first, files.replacing(path) as second:
        for temporary in (first, second):
            with open(temporary, "w") as file:
                file.write(temporary)
    # The outer block ends last.
    assert files.read_text(path) == first


@pytest.mark.slow
def test_a_process_that_entered_a_folder_is_waited_for(tmp_path, monkeypatch):
    folder = str(tmp_path)
    program = textwrap.dedent(f"""
        from bert_pretrain import locks
        locks.enter({folder!r})
        print("in", flush=True)
        input()
    """)
    other = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "in\n"
    handle = locks.enter(folder)  # Those who enter do not wait.
    locks.leave(handle)
    real, kinds = fcntl.flock, []

    def flock(handle, kind):
        """The other process leaves as soon as this one waits for it."""
        kinds.append(kind)
        if kind == fcntl.LOCK_EX:
            other.stdin.close()
        real(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    locks.wait_until_left(folder)
    # The lock was not free at once.
    assert kinds == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
    other.wait()
    other.stdout.close()


def test_transient_errors_are_distinguished_from_others():
    def cause(error):
        with pytest.raises(errors.UserError) as raised:
            with file_errors.naming("path"):
                raise error
        return raised.value

    for error in (
        tf.errors.UnavailableError(None, None, "503"),
        OSError(errno.EIO, "Input/output error"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
    ):
        assert file_errors.is_transient(error)
        assert file_errors.is_transient(cause(error))
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        tf.errors.NotFoundError(None, None, "no such object"),
        OSError("Invalid data stream"),  # so bz2 says that a file is corrupt
        EOFError("it ends inside a stream"),
    ):
        assert not file_errors.is_transient(error)
        assert not file_errors.is_transient(cause(error))


@pytest.mark.slow
def test_a_warning_is_printed_once_and_a_program_may_silence_it():
    # absl's handler at the root logger prints to stderr too.
    program = textwrap.dedent("""
        import logging
        from absl import app
        from bert_pretrain import errors
        def main(argv):
            errors.warn("100% full")
            logging.getLogger("bert_pretrain").setLevel(logging.ERROR)
            errors.warn("nobody reads this")
        app.run(main)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "warning: 100% full\n"
    assert done.stdout == ""


def test_a_second_process_is_kept_out_until_the_first_ends(tmp_path):
    program = textwrap.dedent(f"""
        from bert_pretrain import locks
        with locks.locked({str(tmp_path)!r}):
            print("in", flush=True)
            input()
    """)
    first = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "in\n"
    with pytest.raises(errors.UserError, match="another process"):
        with locks.locked(str(tmp_path)):
            pass
    # The lock must end with its process, even if the process is killed.
    first.kill()
    first.wait()
    with locks.locked(str(tmp_path)):
        pass


@pytest.mark.parametrize("folder", ["{tmp_path}", "ram://test_brackets"])
@pytest.mark.parametrize(
    "pattern, found",
    [
        ("news[1].jsonl", ["news[1].jsonl"]),
        ("news[12].jsonl", ["news1.jsonl", "news2.jsonl"]),
        ("новости [2].txt", ["новости [2].txt"]),
        ("новости [2]*", ["новости [2].txt"]),
        ("a[1]/x?.txt", ["a[1]/x1.txt", "a[1]/x2.txt"]),
        ("a[1]/x[12].txt", ["a[1]/x1.txt", "a[1]/x2.txt"]),
        ("a[12]/*", ["a1/y.txt"]),
        ("a[[]1]/*1.txt", ["a[1]/x1.txt"]),
        ("b*/[c]/*", ["b*/[c]/z.txt"]),
        ("*/[c]/*", []),
    ],
)
def test_a_literal_name_goes_before_a_pattern(folder, pattern, found, tmp_path):
    folder = folder.format(tmp_path=tmp_path)
    for name in (
        *("news[1].jsonl", "news1.jsonl", "news2.jsonl", "новости [2].txt"),
        *("a[1]/x1.txt", "a[1]/x2.txt", "a1/y.txt", "b*/[c]/z.txt"),
        "bb/c/q.txt",
    ):
        files.write_text(f"{folder}/{name}", "x")
    if pattern == "*/[c]/*":  # No folder of this name, so it is a pattern.
        found = ["bb/c/q.txt"]
    assert files.expand([f"{folder}/{pattern}"]) == [
        f"{folder}/{name}" for name in found
    ]
