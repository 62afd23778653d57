"""Times features and training steps against the same models in PyTorch.

  pip install -c constraints.txt -e ".[benchmark]"
  python -m benchmarks.backbones

ResNet-50 and ViT-S/16, batches of 32 images of 224 pixels, random weights, in
float32. The PyTorch models are those of the package transformers. A step trains
as published: the head and the last stage of ResNet-50 with batch statistics, or
the last normalisations of ViT-S/16. Both sides run alternately in one process,
and medians are printed. ResNet-50 in PyTorch also runs with channels last, its
faster layout on a CPU.
"""

import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import transformers  # pyright: ignore[reportMissingImports]

from decern_jax import models
from decern_jax.distributed import sharding
from decern_jax.features import embedding
from decern_jax.models import pretrained
from decern_jax.training import finetune
from decern_jax.training.head import init_head
from decern_jax.training.recipe import Recipe

BATCH_SIZE = 32
IMAGE_SIZE = 224
NUM_CLASSES = 200
NUM_STEPS = 20
NUM_BLOCKS = 4
RECIPE = Recipe(num_epochs=1, batch_size=BATCH_SIZE, learning_rate=1e-3)
LABELS = np.arange(BATCH_SIZE, dtype=np.int32)


def load(name: str) -> models.Backbone:
  """Returns a model with random weights."""
  module = models.MODELS[name].module()
  image = jnp.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3))
  variables = jax.jit(module.init)(jax.random.key(0), image)
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "model.safetensors"
    pretrained.save_safetensors(file, variables)
    return models.create(name, weights=file, image_size=IMAGE_SIZE)


def ours(name: str, images: np.ndarray):
  """Returns functions that compute features, and that make steps."""
  backbone = load(name)
  variables = backbone.variables
  mesh = sharding.make_mesh(1)
  mask = models.trainable_mask(name, variables["params"], "published")
  trained, fixed = finetune.partition(variables["params"], mask)
  head = init_head(jax.random.key(0), dim=backbone.dim, num_classes=NUM_CLASSES)
  batch_stats = variables.get("batch_stats", {})
  state = finetune.create(trained, head, batch_stats, recipe=RECIPE)

  def embed(count: int) -> None:
    batches = embedding.embed(
      backbone.apply,
      variables,
      [images] * count,
      batch_size=BATCH_SIZE,
      mesh=mesh,
    )
    for _ in batches:
      pass

  def train(count: int) -> None:
    nonlocal state
    for _ in range(count):
      state, loss = finetune.train_step(
        state,
        fixed,
        images,
        LABELS,
        np.float32(count),
        apply=backbone.train_apply if batch_stats else backbone.apply,
        use_batch_statistics=bool(batch_stats),
        in_chunks=True,
        recipe=RECIPE,
      )
    loss.block_until_ready()

  return embed, train


def torch_model(name: str):
  """Returns a model, its feature function and its trainable parameters."""
  if name == "resnet50":
    model = transformers.ResNetModel(transformers.ResNetConfig())
    return (
      model,
      lambda images: model(images).pooler_output.flatten(1),
      lambda parameter: "stages.3" in parameter,
      2048,
    )
  config = transformers.ViTConfig(
    hidden_size=384, num_attention_heads=6, intermediate_size=1536
  )
  model = transformers.ViTModel(config, add_pooling_layer=False)

  def class_tokens(images):
    layers = model(images, output_hidden_states=True).hidden_states[-4:]
    return torch.cat([model.layernorm(tokens[:, 0]) for tokens in layers], 1)

  def is_trained(parameter: str) -> bool:
    is_last = "layer.11" in parameter and "layernorm" in parameter
    return is_last or parameter.startswith("layernorm")

  return model, class_tokens, is_trained, 4 * 384


def theirs(name: str, images: np.ndarray, *, channels_last: bool = False):
  """Returns functions that do the same in PyTorch."""
  model, compute, is_trained, dim = torch_model(name)
  pixels = torch.from_numpy(images.transpose(0, 3, 1, 2)) / 127.5 - 1
  if channels_last:
    model.to(memory_format=torch.channels_last)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
  else:
    pixels = pixels.contiguous()
  for parameter, tensor in model.named_parameters():
    tensor.requires_grad = is_trained(parameter)
  head = torch.nn.Linear(dim, NUM_CLASSES)
  trained = [p for p in model.parameters() if p.requires_grad]
  optimizer = torch.optim.Adam([*trained, *head.parameters()], 1e-3)
  labels = torch.from_numpy(LABELS).long()

  def embed(count: int) -> None:
    model.eval()
    with torch.inference_mode():
      for _ in range(count):
        compute(pixels)

  def train(count: int) -> None:
    model.train()
    for _ in range(count):
      optimizer.zero_grad()
      outputs = head(compute(pixels))
      torch.nn.functional.cross_entropy(outputs, labels).backward()
      optimizer.step()

  return embed, train


def rate(function, count: int) -> float:
  """Returns the images per second of some batches."""
  start = time.perf_counter()
  function(count)
  return count * BATCH_SIZE / (time.perf_counter() - start)


def compare(name: str, images: np.ndarray) -> None:
  """Prints the rates of all sides."""
  sides = {"decern_jax": ours(name, images), "PyTorch": theirs(name, images)}
  if name == "resnet50":
    sides["PyTorch, channels last"] = theirs(name, images, channels_last=True)
  for index, work in enumerate(("features", "training steps")):
    rates = {side: [] for side in sides}
    for functions in sides.values():
      functions[index](1)
    for _ in range(NUM_BLOCKS):
      for side, functions in sides.items():
        count = NUM_STEPS // NUM_BLOCKS
        rates[side].append(rate(functions[index], count))
    medians = {side: statistics.median(found) for side, found in rates.items()}
    for side, found in rates.items():
      ratio = medians["decern_jax"] / medians[side]
      print(
        f"{name}, {work}, {side}: {medians[side]:.1f} images/s"
        f" [{min(found):.1f}-{max(found):.1f}], decern_jax / this {ratio:.2f}",
        flush=True,
      )


def main() -> None:
  """Runs the comparison."""
  rng = np.random.default_rng(0)
  shape = (BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3)
  images = rng.integers(0, 256, shape, dtype=np.uint8)
  for name in ("resnet50", "vit_small16"):
    compare(name, images)


if __name__ == "__main__":
  main()
