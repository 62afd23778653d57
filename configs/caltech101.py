"""Caltech101, 100 classes of objects, as in DECERN's paper.

  python -m decern_jax.main --config=configs/caltech101.py

4,128 training and 2,465 test images; 100 labels to begin with and in each of 7
rounds.

The split is CoOp's: put `split_zhou_Caltech101.json` into `data/`, or name it
with --config.dataset.split_file. The images come from tfds, both of whose
splits it divides anew: `python -m decern_jax.prepare caltech101`.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub. Others are named
after the file, `--config=configs/caltech101.py:dinov2_small14` or `:resnet50`,
whose weights `configs/paper.py` says how to get. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from configs import common


def get_config(backbone: str = "vit_small16"):
  """Returns the configuration for Caltech101.

  Args:
    backbone: One of `common.PAPER_BACKBONES`.
  """
  return common.get_paper_config("caltech101", backbone)
