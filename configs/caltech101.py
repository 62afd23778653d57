"""Caltech101, 100 classes of objects, as in DECERN's paper.

  python -m decern_jax.main --config=configs/caltech101.py

4,128 training and 2,465 test images; 200 labels to begin with and in each of 7
rounds.

The split is CoOp's: put `split_zhou_Caltech101.json` into `data/`, or name it
with --config.dataset.split_file. The images come from tfds, both of whose
splits it divides anew: `python -m decern_jax.prepare caltech101`.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub, and the budget the
published one, 2 labels per class. Others follow the name of the file, as
`--config=configs/caltech101.py:resnet50/1x`, `:dinov2_small14` or `:1x`.
`configs/paper.py` says how to get their weights. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for Caltech101.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("caltech101", variant)
