"""Query strategies: which examples of a pool to label next."""

from decern_jax.strategies import (
  active_ft,
  alfa_mix,
  badge,
  bait,
  bald,
  cluster_pick,
  core_gcn,
  coreset,
  decern,
  decern_multilabel,
  dropquery,
  entropy,
  gradient_magnitude,
  kmeans,
  learning_loss,
  least_confidence,
  margin,
  noise_stability,
  power,
  probcover,
  random,
  temporal_discrepancy,
  typiclust,
)
from decern_jax.strategies.pool import NEEDS, Pool, Selection, Strategy

_CLUSTERS = ("shortlist_factor", "cluster_pick")
_DROPOUT = ("num_dropout_passes", "dropout_rate")

STRATEGIES: dict[str, Strategy] = {
  "active_ft": Strategy(
    active_ft.select,
    needs=("features",),
    select_multi_label=active_ft.select,
  ),
  "alfa_mix": Strategy(
    alfa_mix.select,
    needs=("features", "labels", "head"),
    select_multi_label=alfa_mix.select_multi_label,
  ),
  "badge": Strategy(
    badge.select,
    needs=("features", "probs"),
    select_multi_label=badge.select_multi_label,
  ),
  "bait": Strategy(
    bait.select,
    needs=("features", "probs", "labels"),
    select_multi_label=bait.select_multi_label,
  ),
  "bald": Strategy(
    bald.select,
    needs=("features", "head"),
    options=_DROPOUT,
    select_multi_label=bald.select_multi_label,
  ),
  "core_gcn": Strategy(
    core_gcn.select,
    needs=("features", "labels"),
    select_multi_label=core_gcn.select,
  ),
  "coreset": Strategy(
    coreset.select,
    needs=("features", "labels"),
    select_multi_label=coreset.select,
  ),
  "decern": Strategy(
    decern.select,
    needs=("features", "probs", "labels", "head"),
    options=("uncertainty_gamma", "diversity_gamma"),
    streams=True,
  ),
  "decern_multilabel": Strategy(
    None,
    needs=("features", "probs", "labels", "head"),
    options=("uncertainty_gamma", "diversity_gamma"),
    select_multi_label=decern_multilabel.select_multi_label,
  ),
  "dropquery": Strategy(
    dropquery.select,
    needs=("features", "head"),
    select_multi_label=dropquery.select_multi_label,
  ),
  "entropy": Strategy(
    entropy.select,
    needs=("probs",),
    select_multi_label=entropy.select_multi_label,
  ),
  "gradient_magnitude": Strategy(
    gradient_magnitude.select,
    needs=("features", "probs"),
    select_multi_label=gradient_magnitude.select_multi_label,
  ),
  "gradient_magnitude_clustered": Strategy(
    cluster_pick.clustered(gradient_magnitude.select),
    needs=("features", "probs"),
    options=_CLUSTERS,
    select_multi_label=cluster_pick.clustered(
      gradient_magnitude.select_multi_label
    ),
  ),
  "kmeans": Strategy(
    kmeans.select, needs=("features",), select_multi_label=kmeans.select
  ),
  "learning_loss": Strategy(
    learning_loss.select,
    needs=("predicted_losses",),
    select_multi_label=learning_loss.select,
  ),
  "learning_loss_clustered": Strategy(
    cluster_pick.clustered(learning_loss.select),
    needs=("features", "predicted_losses"),
    options=_CLUSTERS,
    select_multi_label=cluster_pick.clustered(learning_loss.select),
  ),
  "least_confidence": Strategy(
    least_confidence.select,
    needs=("probs",),
    select_multi_label=least_confidence.select_multi_label,
  ),
  "margin": Strategy(
    margin.select,
    needs=("probs",),
    select_multi_label=margin.select_multi_label,
  ),
  "noise_stability": Strategy(
    noise_stability.select,
    needs=("features", "head"),
    select_multi_label=noise_stability.select,
  ),
  "power_bald": Strategy(
    power.power(bald.select),
    needs=("features", "head"),
    options=(*_DROPOUT, "power_beta"),
    select_multi_label=power.power(bald.select_multi_label),
  ),
  "power_entropy": Strategy(
    power.power(entropy.select),
    needs=("probs",),
    options=("power_beta",),
    select_multi_label=power.power(entropy.select_multi_label),
  ),
  "power_margin": Strategy(
    power.power(margin.select),
    needs=("probs",),
    options=("power_beta",),
    select_multi_label=power.power(margin.select_multi_label),
  ),
  "probcover": Strategy(
    probcover.select,
    needs=("features", "labels", "head"),
    options=("cover_delta",),
    select_multi_label=probcover.select_multi_label,
  ),
  "random": Strategy(random.select, needs=(), select_multi_label=random.select),
  "temporal_discrepancy": Strategy(
    temporal_discrepancy.select,
    needs=("probs", "previous_probs"),
    select_multi_label=temporal_discrepancy.select,
  ),
  "temporal_discrepancy_clustered": Strategy(
    cluster_pick.clustered(temporal_discrepancy.select),
    needs=("features", "probs", "previous_probs"),
    options=_CLUSTERS,
    select_multi_label=cluster_pick.clustered(temporal_discrepancy.select),
  ),
  "typiclust": Strategy(
    typiclust.select,
    needs=("features", "labels"),
    select_multi_label=typiclust.select,
  ),
}

__all__ = ["NEEDS", "STRATEGIES", "Pool", "Selection", "Strategy"]
