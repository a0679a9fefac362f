"""What the tests of networks share."""

import pytest


@pytest.fixture(scope="module")
def one_thread():
    """Networks as small as these are slower with more threads, and tests run side by side."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
