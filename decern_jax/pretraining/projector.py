"""The network between a backbone's features and a self-supervised loss."""

from flax import linen as nn
import jax

_MOMENTUM = 0.9
_EPSILON = 1e-5


class Projector(nn.Module):
  """Linear layers with ReLU between them; thrown away after pre-training.

  Attributes:
    widths: Outputs of each layer, the last one those of the loss.
    use_norm: Whether batch normalisation stands before each ReLU, and no layer
      has a bias; as in SimCLR and Barlow Twins, not in MoCo v2.
  """

  widths: tuple[int, ...]
  use_norm: bool

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Projects features, by the statistics of the batch.

    Args:
      features: float32 [batch, dim].

    Returns:
      float32 [batch, widths[-1]].
    """
    outputs = features
    for index, width in enumerate(self.widths):
      if index:
        if self.use_norm:
          outputs = self._norm(index)(outputs)
        outputs = nn.relu(outputs)
      dense = nn.Dense(
        width, use_bias=not self.use_norm, name=f"layer{index + 1}"
      )
      outputs = dense(outputs)
    return outputs

  def _norm(self, index: int) -> nn.BatchNorm:
    # Nothing reads running statistics of a network that is thrown away.
    return nn.BatchNorm(
      use_running_average=False,
      momentum=_MOMENTUM,
      epsilon=_EPSILON,
      name=f"norm{index}",
    )
