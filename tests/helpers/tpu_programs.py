"""What TPUs are given: a small run for each kind of program there is."""

from bert_pretrain.checkpoints import checkpoint_saver
from bert_pretrain.telemetry import metrics_log
from bert_pretrain.training import optimizer, training_config, training_loop
from helpers import training

# Name to (the set's options, the run's); among them all that a program can
# differ in.
KINDS = {
    "lamb": (
        {},
        {
            "optimization": optimizer.OptimizerConfig(optimizer="lamb"),
            "architecture": {"freeze": r"bert\.embeddings"},
        },
    ),
    # Of rows and heads that a TPU has a kernel for, in all layers but the last.
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
    """A run that has the programs of a kind."""
    of_set, of_run = KINDS[kind]
    return training.config(
        folder,
        make_dataset(kind, train=(13, 7, 9, 8), **of_set),
        model_dir,
        **{**of_run, **values},
    )


def num_sums(tpus):
    """Function to the sums over replicas in its programs, checked.

    They are done once a step, whatever loops there are in it; and nothing
    else is sent around.
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


def parts_of(config, strategy):
    plan = training_config.plan(config)
    with strategy.scope():
        state = training_config.new_state(config, plan)
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
