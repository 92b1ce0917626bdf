"""Clusters of processes on this machine, for the tests that have work done elsewhere."""

from __future__ import annotations

from typing import Any


def workers(number: int) -> Any:
    """Return a cluster of so many processes with one thread each, to be used by ``with``."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=number,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",  # the usual port may be taken, which is a warning
    )
