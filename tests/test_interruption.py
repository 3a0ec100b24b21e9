"""Signals take effect between two loops."""

import os
import signal

import pytest

from bert_pretrain import interruption


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 75)]
)
def test_a_signal_takes_effect_when_the_run_looks_for_it(number, code):
    before = signal.getsignal(number)
    with interruption.watching() as raise_if_asked:
        raise_if_asked()
        os.kill(os.getpid(), number)
        with pytest.raises(interruption.Interrupted) as interrupted:
            raise_if_asked()
    assert interrupted.value.code == code
    assert signal.getsignal(number) == before


def test_a_second_sigint_takes_effect_at_once_and_a_second_sigterm_does_not():
    with pytest.raises(KeyboardInterrupt), interruption.watching():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)
