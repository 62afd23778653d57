"""Query strategies, by name: which examples to label next."""

from decern_jax.strategies import decern, entropy, margin, random
from decern_jax.strategies.pool import Pool, Selection, Strategy

STRATEGIES: dict[str, Strategy] = {
  "decern": Strategy(
    decern.select, options=("uncertainty_gamma", "diversity_gamma")
  ),
  "entropy": Strategy(entropy.select),
  "margin": Strategy(margin.select),
  "random": Strategy(random.select),
}

__all__ = ["STRATEGIES", "Pool", "Selection", "Strategy"]
