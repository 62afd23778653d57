"""The settings that the shapes of a run depend on, without its data."""

from collections.abc import Callable
import dataclasses

from jax.sharding import Mesh

from decern_jax import models
from decern_jax.data.sources import DATASETS
from decern_jax.distributed.sharding import LARGEST_SHARE
from decern_jax.runs.experiment import bind_strategy, make_recipe
from decern_jax.runs.round import Task
from decern_jax.strategies import STRATEGIES, Selection
from decern_jax.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Setting:
  """The settings that the shapes of a run depend on.

  Attributes:
    mesh: The mesh.
    model_name: Name of the model in the table.
    dtype: Type in which the model computes.
    image_size: Height and width of the images.
    scope: Which parameters are trained in addition to the head.
    augment: Whether training images are augmented.
    freeze_batch_norm: Whether batch normalisation keeps its statistics.
    recipe: The recipe of the training.
    embed_batch_size: Batch size for computing features.
    strategy: Name of the strategy.
    select: The strategy with its options; None for multi-label strategies.
    num_train: Number of training examples, the pool.
    num_test: Number of test examples.
    num_classes: Number of classes.
    budget: Number of labels per selection.
    capacity: Number of labels in the last round.
    pool_on_host: Whether the features of the pool stay on the host.
  """

  mesh: Mesh
  model_name: str
  dtype: str
  image_size: int
  scope: str
  augment: bool
  freeze_batch_norm: bool
  recipe: Recipe
  embed_batch_size: int
  strategy: str
  select: Callable[..., Selection] | None
  num_train: int
  num_test: int
  num_classes: int
  budget: int
  capacity: int
  pool_on_host: bool

  @property
  def image(self) -> tuple[int, int, int]:
    """The shape of an image."""
    return (self.image_size, self.image_size, 3)

  @property
  def train_batch_size(self) -> int:
    """Size of the largest training batch."""
    return min(self.recipe.batch_size, self.capacity)


def make_setting(
  config, mesh: Mesh, *, device_memory: int | None, **sizes: int | None
) -> Setting:
  """Returns the settings that the shapes of a run depend on.

  Args:
    config: The configuration, checked.
    mesh: The mesh of the run.
    device_memory: Bytes of a device. None if unknown; the pool is then assumed
      to fit.
    **sizes: `num_train`, `num_test` and `num_classes`; None stands for the
      published size.

  Raises:
    ValueError: If a size is neither given nor published, or the pool is
      smaller than the labels of all rounds.
  """
  complete = _complete_sizes(config.dataset.name, sizes)
  default = config.selection.budget_per_class * complete["num_classes"]
  task = Task(
    ids=(),
    initial_budget=config.selection.initial_budget or default,
    budget=config.selection.budget or default,
    num_rounds=config.num_rounds,
  )
  if task.capacity > complete["num_train"]:
    raise ValueError(
      f"Expected at most {complete['num_train']} labels in all rounds, as many"
      f" as there are training examples, got {task.capacity}."
    )
  name = config.selection.strategy
  select = None
  if STRATEGIES[name].form(is_multi_label=False) is not None:
    select = bind_strategy(config, name, is_multi_label=False)
  return Setting(
    mesh=mesh,
    model_name=config.model.name,
    dtype=config.model.dtype,
    image_size=config.dataset.image_size,
    scope=config.train.scope,
    augment=config.train.augment,
    freeze_batch_norm=config.train.freeze_batch_norm,
    recipe=make_recipe(config),
    embed_batch_size=config.system.embed_batch_size,
    strategy=name,
    select=select,
    budget=task.budget,
    capacity=task.capacity,
    pool_on_host=_stays_on_host(config, mesh, device_memory, complete),
    **complete,
  )


def _stays_on_host(
  config, mesh: Mesh, device_memory: int | None, sizes: dict[str, int]
) -> bool:
  """Whether features stay on the host, by the same rule as in a run."""
  if config.system.pool_on_host is not None or device_memory is None:
    return bool(config.system.pool_on_host)
  dim = models.MODELS[config.model.name].dim
  share = 4 * sizes["num_train"] * dim / mesh.size
  return share > LARGEST_SHARE * device_memory


def _complete_sizes(name: str, sizes: dict[str, int | None]) -> dict[str, int]:
  """Returns the sizes of a data set; the published size replaces None."""
  spec = DATASETS[name]
  complete = {
    size: getattr(spec, size) if value is None else value
    for size, value in sizes.items()
  }
  missing = [f"--{size}" for size, value in complete.items() if value is None]
  if missing:
    raise ValueError(
      f"Expected {', '.join(missing)} for data set {name!r}, which has no"
      " published sizes of that name."
    )
  return complete
