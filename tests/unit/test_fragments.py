"""FGD's measure of what is left free and of no use, and the placements that it leads to."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.decide.fragments import Mix, fragments
from balancer.simulate.placement import allocated
from balancer.simulate.recorded import load_nodes


def mix(*tasks: tuple[float, int, float, float]) -> Mix:
    """Tasks as (weight, GPUs, share of each, processor); none needs memory."""
    weight, gpus, share, cpu = np.array(tasks, dtype=np.float64).T
    return Mix(weight=weight, gpus=gpus, share=share, cpu=cpu, memory=np.zeros_like(cpu))


@pytest.mark.parametrize(("left", "cpu", "expected"), [
    ((1.0, 1.0), 4.0, 0.0),  # everything is of use
    ((1.0, 0.4), 4.0, 0.4),  # the second GPU is too full for half of one
    ((0.4, 0.4), 4.0, 0.8),  # none is of use
    ((1.0, 1.0), 1.0, 2.0),  # no processor is left to use them with
])
def test_what_is_of_no_use_to_half_a_gpu(left: tuple[float, ...], cpu: float, expected: float) -> None:
    assert fragments(left, cpu, 0.0, mix((1.0, 1, 0.5, 2.0))) == pytest.approx(expected)


def test_a_mix_weighs_its_tasks() -> None:
    both = mix((0.75, 1, 0.5, 0.0), (0.25, 2, 1.0, 0.0))
    # Half a GPU finds one that is free enough; two whole ones are not there at all.
    assert fragments((1.0, 0.4), 1.0, 0.0, both) == pytest.approx(0.75 * 0.4 + 0.25 * 1.4)


def test_pulling_by_the_measure_allocates_most_and_blind_placing_least() -> None:
    """A part of the cluster: what waits in lanes packs better than what must be placed as it comes."""
    nodes = load_nodes()[::40]
    shares = {policy: allocated(policy, 1, nodes) for policy in ("random", "best fit", "fgd", "pull")}
    assert max(shares.values()) == shares["pull"] >= 0.95
    assert shares["fgd"] > shares["random"]
