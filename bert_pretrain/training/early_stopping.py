"""When a run has learned what it can: its held-out loss falls no longer."""


def is_due(losses, patience):
    """Whether the last `patience` losses brought no new least one.

    Args:
      losses: of a run's evaluations, in order.
      patience: 0 for never.
    """
    if not patience or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])
