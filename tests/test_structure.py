"""Which package may import which, and what workers load."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# From the bottom up: a room imports itself and rooms before it. "." stands for
# the files beside the rooms that have no `main`.
ROOMS = {
    "bert_pretrain": (
        ".",
        "devices",
        "data",
        "kernels",
        "model",
        "checkpoints",
        "telemetry",
        "evaluation",
        "interchange",
        "training",
        "pretraining",
        "tasks",
        "finetuning",
        "tpu",
        "compilation",
        "assessment",
        "diagnosis",
        "mains",
    ),
    "tfrecord_builders": (
        ".",
        "quality",
        "wikitext",
        "sources",
        "tokens",
        "rows",
        "engines",
        "stages",
        "building",
        "reporting",
        "mains",
    ),
}
# What the builders import from the trainer's package.
SHARED_ROOMS = ("bert_pretrain.data.",)
SHARED_FILES = (
    "command_line",
    "errors",
    "file_errors",
    "files",
    "interruption",
    "locks",
    "numba_jit",
    "options",
)


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported_modules(path):
    """The full names of all imports, with the names that come from packages."""
    yield from names_of(ast.walk(ast.parse(path.read_text())))


def loaded_modules(path):
    """The names that are imported when the file is imported."""
    yield from names_of(ast.parse(path.read_text()).body)


def names_of(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_main(path):
    return 'if __name__ == "__main__"' in path.read_text()


def room_of(path):
    """The package and the room that a file is in."""
    package, *folders, _ = path.relative_to(ROOT).parts
    if folders:
        return package, folders[0]
    return package, "mains" if is_main(path) else "."


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_rooms_below_them(package):
    rooms = {module_name(path): room_of(path) for path in sources(package)}
    order = {room: number for number, room in enumerate(ROOMS[package])}
    assert {room for _, room in rooms.values()} == set(order)
    for path in sources(package):
        _, room = room_of(path)
        for name in imported_modules(path):
            if name in rooms:
                assert order[rooms[name][1]] <= order[room], f"{path}: {name}"


@pytest.mark.parametrize("package", ROOMS)
def test_no_two_files_import_each_other(package):
    arrows = {
        module_name(path): set(imported_modules(path))
        for path in sources(package)
    }
    while True:
        done = {name for name, to in arrows.items() if not to & set(arrows)}
        if not done:
            break
        arrows = {n: to for n, to in arrows.items() if n not in done}
    assert not arrows, f"in a circle, or above one: {sorted(arrows)}"


def test_rooms_hold_few_files():
    for package, rooms in ROOMS.items():
        for room in set(rooms) - {".", "mains"}:
            files = {p.stem for p in (ROOT / package / room).glob("*.py")}
            assert 4 <= len(files - {"__init__"}) <= 10, room


def test_builders_import_only_what_they_share_with_the_trainer():
    shared = {"bert_pretrain", *(f"bert_pretrain.{n}" for n in SHARED_FILES)}
    for path in sources("tfrecord_builders"):
        ours = {
            name
            for name in imported_modules(path)
            if name.startswith("bert_pretrain")
            and not name.startswith(SHARED_ROOMS)
        }
        assert ours <= shared, f"{path} imports {sorted(ours - shared)}"


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


def test_no_test_file_imports_another():
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert len(tests) > 60
    for path in tests:
        for name in imported_modules(path):
            modules = name.split(".")
            is_test = any(module.startswith("test_") for module in modules)
            assert not is_test and "conftest" not in modules, f"{path}: {name}"


def test_only_functions_that_need_jax_import_it():
    kernel = "bert_pretrain.kernels.pallas_attention"  # it is written in jax
    for path in sources("bert_pretrain") + sources("tfrecord_builders"):
        loaded = set(loaded_modules(path))
        assert kernel not in loaded, path
        if module_name(path) != kernel:
            assert not any(name.startswith("jax") for name in loaded), path


def test_only_mains_read_flags():
    for path in sources("bert_pretrain") + sources("tfrecord_builders"):
        if path.stem != "command_line":
            assert "absl.flags" not in set(imported_modules(path)), path
        if not is_main(path):
            assert "command_line.run(" not in path.read_text(), path


def printed_by(program):
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "beam"])
def test_a_builder_s_worker_loads_no_training_stack(engine):
    if engine == "beam":
        pytest.importorskip("apache_beam")
    # A worker gets a function from the stages, through its engine.
    program = (
        f"import sys; from tfrecord_builders.engines import {engine}; "
        "from tfrecord_builders.stages import make_rows, write_shards; "
        # tensorflow_text itself loads tf_keras.
        "print(sorted({'transformers', 'orbit', 'official'}"
        " & set(sys.modules)))"
    )
    assert printed_by(program) == "[]"


@pytest.mark.slow
def test_only_the_beam_engine_imports_beam():
    program = (
        "import sys; import tfrecord_builders.building.pipeline; "
        "print('apache_beam' in sys.modules)"
    )
    assert printed_by(program) == "False"


def test_options_are_read_before_tensorflow_is_loaded():
    # So --help and a wrong flag do not wait for it.
    mains = [
        module_name(path)
        for package in ROOMS
        for path in sources(package)
        if is_main(path)
    ]
    assert len(mains) >= 10
    program = (
        f"import sys, {', '.join(mains)}; print(sorted({{'tensorflow', "
        "'transformers', 'numba', 'numpy'} & set(sys.modules)))"
    )
    assert printed_by(program) == "[]"


def public_functions(tree):
    """Functions, and methods of classes, that others may call."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    for scope in (tree, *classes):
        if getattr(scope, "name", "").startswith("_"):
            continue
        for node in scope.body:
            if isinstance(node, ast.FunctionDef) and (
                not node.name.startswith("_")
                or node.name in ("__init__", "__call__")
            ):
                yield node


def test_public_functions_say_their_types():
    missing = []
    for path in sources("bert_pretrain") + sources("tfrecord_builders"):
        for node in public_functions(ast.parse(path.read_text())):
            arguments = node.args.posonlyargs + node.args.args
            missing += [
                f"{path}:{node.lineno} {node.name}({argument.arg})"
                for argument in arguments + node.args.kwonlyargs
                if argument.annotation is None
                and argument.arg not in ("self", "cls")
            ]
            if node.returns is None:
                missing.append(f"{path}:{node.lineno} {node.name}")
    assert not missing, "\n".join(missing)
