"""Options of the whole test suite."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the longer suites too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="a longer suite: run with --slow"))
