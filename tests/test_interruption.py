"""Signals are answered between two loops."""

import os
import signal

import pytest

from bert_pretrain.training import interruption


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 75)]
)
def test_a_signal_is_answered_when_it_is_looked_for(number, code):
    before = signal.getsignal(number)
    with interruption.watching() as raise_if_asked:
        raise_if_asked()
        os.kill(os.getpid(), number)
        with pytest.raises(interruption.Interrupted) as interrupted:
            raise_if_asked()
    assert interrupted.value.code == code
    assert signal.getsignal(number) == before


def test_a_second_sigint_is_answered_at_once_and_a_second_sigterm_is_not():
    with pytest.raises(KeyboardInterrupt), interruption.watching():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)
