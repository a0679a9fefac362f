"""What tests share: a home of their own, one thread, a Hypothesis profile, skips that count."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=200, print_blob=True)
settings.register_profile(
    "quick", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """No test touches a user's logs and datasets."""
    monkeypatch.setenv("RECGYM_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))


@pytest.fixture(scope="module")
def one_thread():
    """Networks as small as these are slower with more threads, and tests run side by side."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def samples():
    """The folder of real samples that RECGYM_RAW names."""
    folder = os.environ.get("RECGYM_RAW")
    if not folder:
        pytest.skip("RECGYM_RAW names no folder of real samples: real data is NOT tested here")
    return Path(folder).resolve()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a test that was skipped has not passed."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
