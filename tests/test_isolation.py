"""What a function does to its process does not reach the caller."""

import os
import signal

import pytest

from bert_pretrain import errors
from bert_pretrain.tpu import isolation


def test_the_answer_comes_back_and_the_caller_hears_of_the_work(capsys):
    answer = isolation.call(divmod, 7, 2, title="dividing 7 by 2")
    assert answer == (3, 1)
    assert capsys.readouterr().err.startswith("dividing 7 by 2 …")


def test_an_abort_is_an_error_that_says_who_ended(capsys):
    with pytest.raises(errors.UserError, match="trying: ended by SIGABRT"):
        isolation.call(os.abort, title="trying")


def test_a_process_that_is_killed_has_most_likely_used_up_the_memory():
    # As what kills it for that does.
    with pytest.raises(errors.UserError, match="memory is used up"):
        isolation.call(signal.raise_signal, signal.SIGKILL, title="trying")


def test_a_defect_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        isolation.call(divmod, 1, 0, title="dividing")
