"""The pytest plugin: `pytest --unilossseg-backend=NAME`, `pytest --unilossseg-loss=package.module:Loss`.

Installed as an entry point, so that every pytest run beside this package imports it. Without one of its options it does
nothing else: the suite is imported only where one is given. See docs/pytest.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("unilossseg", "UniLossSeg: conformance of losses and backends")
    group.addoption(
        "--unilossseg-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="check every loss on a backend: its name, or package.module:BACKEND for one of your own; repeat for several",
    )
    group.addoption(
        "--unilossseg-loss",
        action="append",
        default=[],
        metavar="NAME",
        help="check one loss of the package by its name, or package.module:Loss, one of your own; on the backends given, or "
        "on all that are installed; repeat for several",
    )
    group.addoption(
        "--unilossseg-quick", action="store_true", help="of the package's own losses only the most telling cases"
    )
    group.addoption(
        "--unilossseg-timeout", type=float, default=60.0, metavar="S", help="seconds that one case may take (60)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Brings the suite in where it is asked for."""
    if config.getoption("--unilossseg-backend") or config.getoption("--unilossseg-loss"):
        from unilossseg.conformance.pytest_suite import Suite

        config.pluginmanager.register(Suite(config), "unilossseg-suite")
