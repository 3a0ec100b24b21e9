"""The programs of TPUs: a small run for each kind of program."""

from bert_pretrain.checkpoints import checkpoint_saver
from bert_pretrain.pretraining import blueprint
from bert_pretrain.telemetry import metrics_log
from bert_pretrain.training import training_config, training_loop
from helpers import training

# Maps a name to the options of (the dataset, the run). Together the kinds have
# all that a program can differ in.
KINDS = {
    "lamb": (
        {},
        {
            "optimization": training_config.OptimizerConfig(optimizer="lamb"),
            "architecture": {"freeze": r"bert\.embeddings"},
        },
    ),
    # A TPU has a kernel for such rows and heads, in all layers but the last.
    "packed": (
        {"is_packed": True, "seq_length": 128},
        {
            "recompute": True,
            "architecture": {"positions": "sinusoidal"},
            "bert": {
                "hidden_size": 128,
                "num_hidden_layers": 2,
                "max_position_embeddings": 128,
            },
        },
    ),
    "dynamic pairs": (
        {"pairing": "nsp", "masking": "none"},
        {"accumulation_steps": 2},
    ),
}


def config_of(kind, make_dataset, folder, model_dir="model", **values):
    """A run with the programs of a kind."""
    of_set, of_run = KINDS[kind]
    return training.config(
        folder,
        make_dataset(kind, train=(13, 7, 9, 8), **of_set),
        model_dir,
        **{**of_run, **values},
    )


def num_sums(tpus):
    """Maps a function to the number of sums over replicas in its programs.

    Checks that the sums are done once in a step, whatever loops are in it, and
    that replicas exchange nothing else.
    """
    from jaxlib import xla_client

    found = {}
    for name, lowered in tpus.programs:
        text = xla_client.XlaComputation(lowered.hlo).as_hlo_text()
        others, main = text.split("\nENTRY ")
        assert " all-reduce(" not in others
        assert "all-to-all" not in text
        found.setdefault(name, []).append(main.count(" all-reduce("))
    return found


def setup_of(config, strategy):
    plan = blueprint.plan(config)
    with strategy.scope():
        state = blueprint.new_state(config, plan)
        saver = checkpoint_saver.Saver(config.saving, state)
    log = metrics_log.MetricsLog(f"{config.saving.model_dir}/log", state)
    run = training_loop.Run(
        config=config,
        plan=plan,
        strategy=strategy,
        state=state,
        saver=saver,
        log=log,
        raise_if_asked=lambda: None,
    )
    return run.enter(plan[0])
