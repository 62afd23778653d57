"""CUB-200-2011, 200 classes of birds, with a frozen MobileNetV2.

  python -m decern_jax.main --config=configs/cub.py \
    --config.model.weights=FILE.safetensors --config.seeds="(1, 11, 111)"

The data must be there: `python -m decern_jax.prepare caltech_birds2011`
downloads and prepares them once (it needs `pip install 'decern_jax[prepare]'`).
5,994 training and 5,794 test images; 200 labels to begin with and in each of 7
rounds. Not run yet: the data set's host cannot be reached from where this was
written.
"""

from configs import common


def get_config():
  """Returns the configuration for CUB-200-2011."""
  config = common.get_config()
  config.dataset.name = "caltech_birds2011"
  config.model.name = "mobilenet_v2"
  return config
