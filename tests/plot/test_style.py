"""The settings of figures."""

import matplotlib

from fastrdm import plot


def test_settings_are_put_back_apart_from_those_that_a_backend_changes():
    before = dict(matplotlib.rcParams)
    try:
        with plot.styled():
            assert matplotlib.rcParams["axes.spines.top"] is False
            # As the backend of Jupyter does when the first figure opens it.
            matplotlib.interactive(True)
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(before["interactive"])
    assert dict(matplotlib.rcParams) == before
