"""StanfordDogs, 120 breeds of dogs, as in DECERN's paper.

  python -m decern_jax.main --config=configs/dogs.py

12,000 training and 8,580 test images; 240 labels to begin with and in each of 7
rounds.

The images come from tfds: `python -m decern_jax.prepare stanford_dogs`.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub, and the budget the
published one, 2 labels per class. Others follow the name of the file, as
`--config=configs/dogs.py:resnet50/1x`, `:dinov2_small14` or `:1x`.
`configs/paper.py` says how to get their weights. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for StanfordDogs.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("stanford_dogs", variant)
