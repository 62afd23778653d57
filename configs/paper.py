"""The paper's 26 settings: 7 data sets, 2 backbones, 1 or 2 labels per class.

  decern-jax run --config=paper:caltech_birds2011/resnet50/1x

The paper counts 26 settings without listing them in the text that we can read.
All data sets with ResNet-50 and ViT-S/16, and with both budgets except
Flowers102 at 2x, are exactly 26: we infer that these are meant. DINOv2 and
Flowers102 at 2x can be named in the same way.

This runs all settings with five seeds, one after the other:

  for setting in $(python -m configs.paper); do
    decern-jax run --config=paper:$setting
  done

It needs:
- the images of six data sets, from `decern-jax prepare NAME` or from
  the authors' release in --config.dataset.path=DIR;
- BronzeDing in `data/bronze_ding`, see `configs/bronze_ding.py`;
- CoOp's split of Caltech101 as `data/split_zhou_Caltech101.json`;
- DINO's ResNet-50 as `weights/dino_resnet50_pretrain.safetensors`: download the
  backbone from https://github.com/facebookresearch/dino and convert it with the
  line that `--config.model.weights=dino_resnet50_pretrain.pth` prints.
The other backbones come from the Hugging Face Hub.

Flowers102 has 1,020 training images: with 2 labels per class and round, all of
them are labeled after 5 rounds, and those runs end there.

Not run yet, because the data were not available: hardware, time and accuracy
are unknown.
"""

from decern_jax.configs import common

SETTINGS = tuple(
  f"{dataset}/{backbone}/{budget}"
  for dataset in common.PAPER_DATASETS
  for backbone in ("resnet50", "vit_small16")
  for budget in common.PAPER_BUDGETS
  if (dataset, budget) != ("oxford_flowers102", "2x")
)

_SEEDS = (1, 11, 111, 1111, 11111)


def get_config(setting: str = "caltech_birds2011/vit_small16/2x"):
  """Returns the configuration of one setting, with five seeds.

  Args:
    setting: Data set, backbone and budget, as in `SETTINGS`.

  Raises:
    ValueError: If there is no such setting.
  """
  dataset, _, variant = setting.partition("/")
  if variant.count("/") != 1:
    raise ValueError(
      f"Unknown setting {setting!r}; expected a data set, a backbone and a"
      f" budget, as {SETTINGS[0]!r}."
    )
  config = common.get_paper_config(dataset, variant)
  config.seeds = _SEEDS
  return config


if __name__ == "__main__":
  print("\n".join(SETTINGS))
