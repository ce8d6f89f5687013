"""What a training cost, from its recipe and history.

As a share of what the same number of dense steps takes. A dense step is three
passes: forward, backward to the inputs, backward to the weights. A pass over
sparse weights is counted by their non-zeros, as if zeros could be skipped.
"""

from __future__ import annotations

from experiments.peers import INTERVAL
from experiments.recipes import LASSO_CUT, Recipe


def training(recipe: Recipe, flops: list[float]) -> float:
    """A training's multiplications, as a share of a dense one's.

    Args:
        recipe: What was trained.
        flops: The forward pass's share at the end of each epoch.
    """
    if recipe.is_dense:
        return 1.0
    total = 0.0
    for epoch, share in enumerate(flops, 1):
        total += (2 * share + _to_weights(recipe, epoch, share)) / 3
    return total / len(flops)


def _to_weights(recipe, epoch, share):
    """The pass that makes the gradients of the weights."""
    if recipe.method in ("pruning", "set", "thresholds"):
        return share  # of what is on, and no others
    if recipe.method == "lasso":
        # the penalty's weights are dense, until they are cut
        cut = recipe.steering.get("end", LASSO_CUT)
        return share if epoch > cut * recipe.epochs else 1.0
    if recipe.method == "rigl":
        # all of them at every change of the mask
        changes = 1 / recipe.steering.get("every", INTERVAL)
        return (1 - changes) * share + changes
    frozen = 1 - recipe.freeze if recipe.density is not None else 1.0
    if recipe.method == "bregman" and epoch > frozen * recipe.epochs:
        return share
    # the dual variable takes every gradient
    return 1.0
