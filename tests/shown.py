"""Which test ran which op on which implementation, and passed: what the page of implementations links its cells to.

JAX_AITER_SHOWN names the file to write; `python -m scripts.pages.shown` takes it over. An op that JAX has compiled already is not
lowered again, so of two tests of a module that run the same call the first is written down.
"""

from typing import Any

import pytest

from tests import outcomes

VARIABLE = "JAX_AITER_SHOWN"


class Shown:
    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.running: dict[tuple[str, str], str] = {}

    def pytest_sessionstart(self) -> None:
        from jax_aiter.bind import select  # imports jax, which by now has its flags

        choose = select.choose

        def noted(op: Any, call: Any, implementation: str | None) -> Any:
            choice = choose(op, call, implementation)
            self.running[op.name, choice.implementation] = call.target.arch or call.target.platform
            return choice

        select.choose = noted

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Any:
        self.running.clear()
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            test = report.nodeid.partition("[")[0]
            self.found |= {f"{op} {implementation} {test}": target for (op, implementation), target in self.running.items()}

    def pytest_sessionfinish(self) -> None:
        outcomes.write(VARIABLE, self.found)
