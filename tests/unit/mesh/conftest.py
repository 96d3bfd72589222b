"""The kernel stamps for whoever asks, from a moment after somebody does: here somebody always does."""

import socket

import pytest

from agent.mesh.options import SO_TIMESTAMPING, STAMPING


@pytest.fixture(scope="session", autouse=True)
def stamping():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, STAMPING)
        yield
