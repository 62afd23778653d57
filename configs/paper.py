"""The paper's grid: 7 data sets, 3 backbones, budgets of 1 or 2 per class.

  python -m decern_jax.main \
    --config=configs/paper.py:caltech_birds2011/resnet50/1x

The paper has 26 settings, but the text that we can read does not list them.
This is the full grid of 42 that contains them, with five seeds each. All of
them, one after the other, or each as a job of its own:

  for setting in $(python -m configs.paper); do
    python -m decern_jax.main --config=configs/paper.py:$setting
  done

Needed first:
- the images of six data sets, by `python -m decern_jax.prepare NAME`;
- BronzeDing in `data/bronze_ding`, see `configs/bronze_ding.py`;
- CoOp's split of Caltech101 as `data/split_zhou_Caltech101.json`;
- DINO's ResNet-50 as `weights/dino_resnet50_pretrain.safetensors`: download the
  backbone from https://github.com/facebookresearch/dino and convert it with the
  line that `--config.model.weights=dino_resnet50_pretrain.pth` prints.
The other two backbones come from the Hugging Face Hub.

Flowers102 has 1,020 training images: with 2 labels per class and round, all of
them are labeled after 5 rounds, and those runs end there.

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written.
"""

from configs import common

BUDGETS = {"1x": 1, "2x": 2}
SETTINGS = tuple(
  f"{dataset}/{backbone}/{budget}"
  for dataset in common.PAPER_DATASETS
  for backbone in common.PAPER_BACKBONES
  for budget in BUDGETS
)

_SEEDS = (1, 11, 111, 1111, 11111)


def get_config(setting: str = "caltech_birds2011/vit_small16/1x"):
  """Returns the configuration of one setting.

  Args:
    setting: One of `SETTINGS`: data set, backbone and budget.

  Raises:
    ValueError: If there is no such setting.
  """
  if setting not in SETTINGS:
    raise ValueError(
      f"Unknown setting {setting!r}; expected a data set of"
      f" {sorted(common.PAPER_DATASETS)}, a backbone of"
      f" {sorted(common.PAPER_BACKBONES)} and a budget of {sorted(BUDGETS)}, as"
      f" {SETTINGS[0]!r}."
    )
  dataset, backbone, budget = setting.split("/")
  config = common.get_paper_config(dataset, backbone)
  config.seeds = _SEEDS
  config.selection.budget_per_class = BUDGETS[budget]
  if dataset == "oxford_flowers102" and budget == "2x":
    config.num_rounds = 5
  return config


if __name__ == "__main__":
  print("\n".join(SETTINGS))
