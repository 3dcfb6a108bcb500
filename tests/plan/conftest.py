"""The mock device for handler tests."""

import pytest

from jax_aiter.kernels import mock_driver


@pytest.fixture
def mock():
    """The mock driver with default settings and no records; it fails, not skips, if the native module is missing."""
    mock_driver.configure()
    yield mock_driver
    mock_driver.configure()
