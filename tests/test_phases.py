"""The phases of a run, from its options and a file."""

import pytest

from bert_pretrain import errors
from bert_pretrain.pretraining import phases
from bert_pretrain.training import course


@pytest.fixture
def read(make_dataset, tmp_path):
    """`read(text)` -> the phases, in which S1 and S2 are two sets' folders."""
    folders = {
        "S1": make_dataset("S1"),
        "S2": make_dataset("S2", seq_length=20, masking="none"),
        "PAIRS": make_dataset("PAIRS", pairing="nsp"),
    }

    def read(text, total_steps=100):
        for name, folder in folders.items():
            text = text.replace(name, folder)
        path = tmp_path / "phases.yaml"
        path.write_text(text)
        return phases.read(
            str(path) if text else "",
            {
                "data_dir": folders["S1"],
                "global_batch_size": 8,
                "accumulation_steps": 1,
                "masked_fraction": None,
                "peak_learning_rate": 1e-3,
            },
            total_steps,
        )

    return read


def test_a_run_without_a_file_is_one_phase(read):
    (phase,) = read("")
    assert (phase.from_step, phase.until_step) == (0, 100)
    assert phase.global_batch_size == 8
    assert phase.manifest.seq_length == 16
    assert phases.describe([phase]) == []


def test_an_entry_keeps_what_it_does_not_name(read):
    first, second, third = read(
        """
        - from_step: 60
          data_dir: S2
          global_batch_size: 4
          masked_fraction: 0.3
          warmup_steps: 5
          reset_optimizer: true
        - from_step: 90
          peak_learning_rate: 5e-5
        """
    )
    assert [p.from_step for p in (first, second, third)] == [0, 60, 90]
    assert [p.until_step for p in (first, second, third)] == [60, 90, 100]
    assert second.manifest.seq_length == third.manifest.seq_length == 20
    assert second.global_batch_size == third.global_batch_size == 4
    assert second.masking.masked_fraction == 0.3
    assert third.masking.masked_fraction == 0.3
    assert first.masking is None
    assert second.peak_learning_rate == 1e-3
    assert third.peak_learning_rate == 5e-5
    # These belong to one phase, not to the phases after it.
    assert (second.warmup_steps, second.reset_optimizer) == (5, True)
    assert (third.warmup_steps, third.reset_optimizer) == (0, False)


def test_each_step_has_its_phase(read):
    run = read("[{from_step: 60, data_dir: S2}, {from_step: 90}]")
    at = {step: course.at_step(run, step).from_step for step in (0, 59, 60, 99)}
    assert at == {0: 0, 59: 0, 60: 60, 99: 60 + 30}
    assert [course.dataset_start(run, phase) for phase in run] == [0, 60, 60]


def test_a_description_identifies_datasets_by_their_content(read):
    (entry,) = phases.describe(read("[{from_step: 60, data_dir: S2}]"))
    assert len(entry.pop("set")) == 64
    assert entry == {
        "from_step": 60,
        "global_batch_size": 8,
        "accumulation_steps": 1,
        "masked_fraction": None,
        "peak_learning_rate": 1e-3,
        "warmup_steps": 0,
        "reset_optimizer": False,
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: [", "not YAML"),
        ("from_step: 3", "expected a list of phases"),
        ("[{global_batch_size: 3}]", "phase 1: has no from_step"),
        ("[{from_step: 3, seed: 4}]", "'seed' cannot change"),
        ("[{from_step: x}]", "from_step='x' is not of the type int"),
        ("[{from_step: 5, global_batch_size: 2.5}]", "not of the type int"),
        ("[{from_step: 5, masked_fraction: much}]", "not of the type float"),
        ("[{from_step: 100}]", "before step 100, where the run ends"),
        ("[{from_step: 50}, {from_step: 50}]", "where the next is"),
        ("[{from_step: 5, data_dir: PAIRS}]", "has pairing='nsp'"),
        (
            "[{from_step: 5, data_dir: S2}, {from_step: 7, data_dir: S1}]",
            "was left in an earlier phase",
        ),
        ("[{from_step: 5, peak_learning_rate: 0}]", "must be positive"),
        ("[{from_step: 5, masked_fraction: 0.2}]", "masks of .* are fixed"),
        (
            "[{from_step: 5, data_dir: S2, masked_fraction: 2}]",
            "masked_fraction=2.0 must be above 0",
        ),
        # It would replace the options without a trace in the log.
        ("[{from_step: 0, global_batch_size: 2}]", "options say how it begins"),
        ("[{from_step: -3}]", "from_step=-3 must be at least 1"),
        ("[{from_step: 5, warmup_steps: -3}]", "warmup_steps=-3 must not be"),
        ("[{from_step: 5, reset_optimizer: true}]", "needs warmup_steps"),
        ("[{from_step: 90, warmup_steps: 10}]", "below the 10 steps"),
        ("[{from_step: 5, peak_learning_rate: .nan}]", "must be a finite"),
        ("[{from_step: 5, peak_learning_rate: .inf}]", "must be a finite"),
        ("[{from_step: 5, from_step: 6}]", "'from_step' is there twice"),
    ],
)
def test_an_impossible_file_is_refused(read, text, message):
    with pytest.raises(errors.UserError, match=message):
        read(text)


def test_a_slash_behind_a_folder_makes_no_other_dataset(read):
    first, second = read("[{from_step: 5, data_dir: S1/}]")
    assert second.data_dir == first.data_dir
    assert course.dataset_start([first, second], second) == 0


def test_a_phase_with_fixed_masks_may_follow_one_with_its_own_masking_rate(
    read,
):
    text = """
        - from_step: 50
          data_dir: S2
          masked_fraction: 0.3
        - from_step: 60
          masked_fraction: null
        """
    _, second, third = read(text)
    assert second.masking.masked_fraction == 0.3
    assert third.masking.masked_fraction == 0.15
    with pytest.raises(errors.UserError, match="masked_fraction='often'"):
        read(text.replace("null", "often"))
