"""Warnings are recorded in a thread without changing the filters of others."""

import threading
import warnings

import pytest

from fastrdm._base import issue, recorded_warnings


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_the_main_thread_records_all_warnings():
    with recorded_warnings() as caught:
        issue(RuntimeWarning("ours"))
        warnings.warn("another's", UserWarning, stacklevel=1)
    assert [(type(each), str(each)) for each in caught] == [
        (RuntimeWarning, "ours"),
        (UserWarning, "another's"),
    ]


def test_other_threads_record_those_of_fastrdm_and_leave_the_filters():
    found, filters = [], list(warnings.filters)

    def record():
        with recorded_warnings() as outer:
            with recorded_warnings() as inner:
                issue(RuntimeWarning("inner"))
                found.append(list(warnings.filters))
            issue(RuntimeWarning("outer"))
        found.extend([list(map(str, inner)), list(map(str, outer))])

    in_thread(record)
    assert found == [filters, ["inner"], ["outer"]]


def test_a_warning_that_nobody_records_is_issued():
    with pytest.warns(RuntimeWarning, match="of no record") as caught:
        issue(RuntimeWarning("of no record"))
    assert caught[0].filename == __file__
