"""Who may import whom: what keeps the packages apart and workers light."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SHARED = {
    "bert_pretrain",
    "bert_pretrain.errors",
    "bert_pretrain.files",
    "bert_pretrain.framing",
    "bert_pretrain.machine_code",
    "bert_pretrain.options",
    "bert_pretrain.records",
    "bert_pretrain.vocabulary",
    "bert_pretrain.wire",
}


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported_modules(path):
    """Full names of the modules, and of what is taken from packages."""
    yield from names_of(ast.walk(ast.parse(path.read_text())))


def loaded_modules(path):
    """Those of them that are imported as soon as the file is."""
    yield from names_of(ast.parse(path.read_text()).body)


def names_of(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_main(path):
    return 'if __name__ == "__main__"' in path.read_text()


def test_builders_import_only_what_they_share_with_the_trainer():
    for path in sources("tfrecord_builders"):
        ours = {
            name
            for name in imported_modules(path)
            if name.startswith("bert_pretrain")
        }
        assert ours <= SHARED, f"{path} imports {sorted(ours - SHARED)}"


def test_the_trainer_imports_nothing_of_the_builders():
    for path in sources("bert_pretrain"):
        assert not any(
            name.startswith("tfrecord_builders")
            for name in imported_modules(path)
        ), path


def test_libraries_import_no_main():
    paths = sources("bert_pretrain") + sources("tfrecord_builders")
    mains = {module_name(path) for path in paths if is_main(path)}
    assert len(mains) >= 6
    for path in paths:
        assert not mains & set(imported_modules(path)), path


def test_a_run_knows_nothing_of_the_tpus_that_are_not_there():
    users = {
        module_name(path)
        for path in sources("bert_pretrain")
        if any(
            name.startswith("bert_pretrain.tpu")
            for name in imported_modules(path)
        )
    }
    assert "bert_pretrain.tpu.rehearsal" in users
    assert {n for n in users if not n.startswith("bert_pretrain.tpu.")} == {
        "bert_pretrain.compile_check"
    }


def test_jax_is_loaded_by_what_asks_for_it_alone():
    kernel = "bert_pretrain.pallas_attention"  # written in jax's words
    for path in sources("bert_pretrain") + sources("tfrecord_builders"):
        loaded = set(loaded_modules(path))
        assert kernel not in loaded, path
        if module_name(path) != kernel:
            assert not any(name.startswith("jax") for name in loaded), path


def test_only_mains_read_flags():
    for path in sources("bert_pretrain") + sources("tfrecord_builders"):
        if path.stem != "options":
            assert "absl.flags" not in set(imported_modules(path)), path
        if not is_main(path):
            assert "options.run(" not in path.read_text(), path


@pytest.mark.parametrize("engine", ["engine", "beam"])
def test_a_builder_s_worker_loads_no_training_stack(engine):
    if engine == "beam":
        pytest.importorskip("apache_beam")
    # A worker gets a function of `stages`, wrapped by its engine.
    program = (
        f"import sys; from tfrecord_builders import {engine}, stages; "
        # tensorflow_text itself loads tf_keras.
        "print(sorted({'transformers', 'orbit', 'official'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_beam_is_loaded_for_its_engine_alone():
    program = (
        "import sys; import tfrecord_builders.build; "
        "print('apache_beam' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
