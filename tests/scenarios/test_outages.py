"""A consumer that was down has everything after one command; large numbers: `python -m tests.scenarios.outages`."""

from __future__ import annotations

import pytest

from tests.scenarios.outages import real_outage, virtual_outage
from zentra.gateway.installation.installation import Installation


def test_an_hour_of_outage_is_made_good_by_one_command() -> None:
    figures = virtual_outage(20)
    assert figures.whole, figures
    assert (figures.events, figures.failed, figures.without, figures.commands) == (40, 20, 20, 1)


@pytest.mark.service
async def test_an_outage_of_a_real_endpoint_is_made_good_by_one_command(installation: Installation) -> None:
    figures = await real_outage(installation, 40)
    assert figures.whole, figures
    assert (figures.failed, figures.without) == (20, 20)
