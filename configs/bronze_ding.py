"""BronzeDing, 11 periods of ritual bronze vessels, as in DECERN's paper.

  python -m decern_jax.main --config=configs/bronze_ding.py

1,470 training images; 11 labels to begin with and in each of 7 rounds.

The authors give the release on request:
https://github.com/zhourixin/bronze-Ding. Put it into `data/bronze_ding`, or
name its folder with --config.dataset.path.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub. Others are named
after the file, `--config=configs/bronze_ding.py:dinov2_small14` or `:resnet50`,
whose weights `configs/paper.py` says how to get. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from configs import common


def get_config(backbone: str = "vit_small16"):
  """Returns the configuration for BronzeDing.

  Args:
    backbone: One of `common.PAPER_BACKBONES`.
  """
  return common.get_paper_config("bronze_ding", backbone)
