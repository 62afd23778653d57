"""SimCLR of a ResNet-18 on your own photos.

  decern-jax pretrain --config=pretrain_image_folder \
    --workdir=runs/pretrain_mine --config.dataset.path=DIR

DIR holds {train,test}/<class>/*.jpg as for `configs/image_folder.py`;
only the images of `train` are used, and their classes only for the probe. A run
starts from the weights by:

  decern-jax run --config=image_folder \
    --config.dataset.path=DIR --config.model.name=resnet18 \
    --config.model.weights=runs/pretrain_mine/backbone.safetensors
"""

from decern_jax.configs import pretrain_common


def get_config():
  """Returns the configuration for a folder of images."""
  config = pretrain_common.get_config()
  config.dataset.name = "image_folder"
  config.dataset.resize_size = 128
  config.dataset.image_size = 128
  return config
