"""How many labels of what a run may buy."""

from decern_jax.data.dataset import Dataset
from decern_jax.data.specs import is_unlabeled
from decern_jax.runs import acquisition


def make_task(config, dataset: Dataset) -> acquisition.Task:
  """Returns the budgets, checked against the pool.

  Args:
    config: The configuration, checked.
    dataset: The data.

  Raises:
    ValueError: If the budget is larger than the pool.
  """
  selection = config.selection
  default = selection.budget_per_class * len(dataset.class_names)
  task = acquisition.Task(
    ids=dataset.train.ids,
    initial_budget=selection.initial_budget or default,
    budget=selection.budget or default,
    num_rounds=config.num_rounds,
    num_candidates=selection.num_candidates,
    label_counts=(
      dataset.train.labels.sum(axis=0)
      if dataset.train.labels.ndim > 1
      else None
    ),
  )
  pool = len(task.ids)
  if is_unlabeled(config.dataset.name):
    task = _fit_to_pool(task)
  if task.capacity > pool:
    rounds = config.num_rounds - 1
    raise ValueError(
      f"Expected `initial_budget` + (`num_rounds` - 1) · `budget` <= {pool}"
      f" training examples, got {task.initial_budget} + {rounds} ·"
      f" {task.budget} = {task.capacity}."
    )
  if task.num_candidates is not None and task.num_candidates < task.budget:
    raise ValueError(
      f"Expected `selection.num_candidates` >= the budget {task.budget}, got"
      f" {task.num_candidates}."
    )
  return task


def _fit_to_pool(task: acquisition.Task) -> acquisition.Task:
  """Returns a task of as many rounds as the pool has images for.

  Labels from people end when all images have theirs.
  """
  initial = min(task.initial_budget, len(task.ids))
  num_rounds = 1 + (len(task.ids) - initial) // task.budget
  return task._replace(
    initial_budget=initial, num_rounds=min(task.num_rounds, num_rounds)
  )


def fit_to_labels(task: acquisition.Task, num_labels: int) -> acquisition.Task:
  """Returns a task that has room for labels, of few sizes.

  Each size is a program of its own.

  Args:
    task: The task.
    num_labels: How many labels there are.
  """
  if num_labels <= task.capacity:
    return task
  return task._replace(max_labels=1 << (num_labels - 1).bit_length())
