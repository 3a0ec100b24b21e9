"""The notebook in launch/: what is in it, and what it shows on a CPU."""

import html
import os
import pathlib
import re
import runpy
import sys

import nbclient
import nbformat
import pytest
import transformers
from absl import flags

from bert_pretrain import command_line
from helpers import builds

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOK = ROOT / "launch" / "pretrain_colab.ipynb"
COLAB = "# Colab only\n"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def commands(notebook):
    """(module, the text of its flags) of each command, in their order."""
    for cell in code_cells(notebook):
        for line in cell.source.replace("\\\n", "").splitlines():
            if found := re.search(r"!\S+ -m (\w+\.\w+)(.*)", line):
                yield found.groups()


def test_the_notebook_is_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None, cell.id


def test_few_cells_are_for_colab_and_say_so(notebook):
    marked = [c for c in code_cells(notebook) if "colab" in tags(c)]
    assert 1 <= len(marked) <= 4
    for cell in code_cells(notebook):
        assert cell.source.startswith(COLAB) == (cell in marked), cell.id
        if cell not in marked:
            assert "google.colab" not in cell.source, cell.id


def flags_of(module, monkeypatch):
    """The flags that a command defines."""
    values = flags.FlagValues()
    monkeypatch.setattr(
        command_line,
        "run",
        lambda main, config: command_line.define_flags(config, values),
    )
    monkeypatch.delitem(sys.modules, module, raising=False)
    runpy.run_module(module, run_name="__main__")
    return set(values)


def test_every_flag_in_the_notebook_exists(notebook, monkeypatch):
    sources = {cell.id: cell.source for cell in code_cells(notebook)}
    variables = {"problem": "", "WITH_TPU": "env"}
    exec(sources["settings"] + "\n" + sources["device"], variables)
    sample = "".join(re.findall(r'^ +"(--.*)"$', sources["build"], re.M))
    assert "--text_layout=" in sample
    found = list(commands(notebook))
    assert len(found) >= 8
    for module, given in found:
        given = given.replace("{TRAINING}", variables["TRAINING"])
        given = given.replace("{TEXT}", sample)
        names = set(re.findall(r"--(\w+)=", given)) - {"flagfile"}
        assert names and names <= flags_of(module, monkeypatch), module
        for path in re.findall(r"--flagfile=(\S+)", given):
            assert (ROOT / path).is_file(), path


def settings(**values):
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    return nbformat.v4.new_code_cell("\n".join(lines))


def executed(notebook, folder, own_settings):
    """Runs the cells that are not for Colab; returns id to (text, data).

    Args:
      folder: the working folder of the notebook.
      own_settings: a cell that comes after the notebook's settings.

    Returns:
      For each code cell what it printed, and what it displayed by MIME type.
    """
    cells = [c for c in notebook.cells if "colab" not in tags(c)]
    (number,) = (i for i, c in enumerate(cells) if "parameters" in tags(c))
    notebook.cells = [*cells[: number + 1], own_settings, *cells[number + 1 :]]
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return {
        cell.id: (
            "".join(o.text for o in cell.outputs if o.output_type == "stream"),
            {k: v for o in cell.outputs for k, v in o.get("data", {}).items()},
        )
        for cell in code_cells(notebook)
    }


@pytest.mark.slow
def test_the_notebook_goes_from_one_s_own_text_to_a_model_on_the_cpu(
    notebook, tmp_path, monkeypatch
):
    # The sample would come from a package registry.
    builds.write_news(f"{tmp_path}/text/news.jsonl", num_documents=60)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # `!python` is the Python of the tests.
    monkeypatch.setenv(
        "PATH", f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    # jax sets it in this process; the doctor calls it a mistake for a CPU.
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    monkeypatch.setenv("IPYTHONDIR", f"{tmp_path}/ipython")

    shown = executed(
        notebook,
        tmp_path,
        settings(
            SOURCE="jsonl",
            INPUT=f"{tmp_path}/text/*.jsonl",
            VOCAB_SIZE=300,
            TOTAL_STEPS=20,
            TRAIN_FLAGS="--steps_per_loop=10",
        ),
    )

    printed, _ = shown["device"]
    assert printed.startswith("The training will use the CPU, ")
    assert "--tpu=local: " in printed
    assert printed.rstrip().endswith(".") and "Traceback" not in printed
    _, displayed = shown["report"]
    page = html.unescape(displayed["text/html"])
    assert "srcdoc=" in page and f"{tmp_path}/text/*.jsonl" in page
    assert "eval at step 20" in shown["train"][0]
    assert "image/png" in shown["curves"][1]

    model = transformers.TFAutoModelForMaskedLM.from_pretrained(
        f"{tmp_path}/output/export", use_safetensors=False
    )
    vocabulary = (tmp_path / "output" / "vocab.txt").read_text().split()
    assert model.config.vocab_size == len(vocabulary)
    table = shown["ask"][0].splitlines()
    assert len(table) >= 3
    for line in table:
        words = line.partition(".")[2].split()
        assert len(words) == 5 and set(words) <= set(vocabulary), line
