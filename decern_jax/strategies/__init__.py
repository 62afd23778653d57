"""Query strategies, by name: which examples to label next."""

from decern_jax.strategies import decern, entropy, margin, random
from decern_jax.strategies.pool import NEEDS, Pool, Selection, Strategy

STRATEGIES: dict[str, Strategy] = {
  "decern": Strategy(
    decern.select,
    needs=("features", "probs", "labels", "head"),
    options=("uncertainty_gamma", "diversity_gamma"),
  ),
  "entropy": Strategy(entropy.select, needs=("probs",)),
  "margin": Strategy(margin.select, needs=("probs",)),
  "random": Strategy(random.select, needs=()),
}

__all__ = ["NEEDS", "STRATEGIES", "Pool", "Selection", "Strategy"]
