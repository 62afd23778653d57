"""Random PyTorch models of `transformers`, and what is expected of ours."""

import re

import numpy as np

from decern_jax.models import pretrained

# From the start of the list on, each on what the one before it gives.
DINO_NAMES = (
  (r"^embeddings\.position_embeddings", "pos_embed"),
  (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
  (r"^embeddings\.", ""),
  (r"^encoder\.layer\.", "blocks."),
  (r"attention\.attention\.query", "attn.qkv"),
  (r"attention\.output\.dense", "attn.proj"),
  ("intermediate.dense", "mlp.fc1"),
  (r"output\.dense", "mlp.fc2"),
  ("layernorm_before", "norm1"),
  ("layernorm_after", "norm2"),
  (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
  ("^layernorm", "norm"),
)
RESNET_LAYERS = {
  "embedder.embedder.convolution": "conv1",
  "embedder.embedder.normalization": "bn1",
}


def randomise(torch, model):
  """Fills every tensor with numbers under which each of them matters."""
  torch.manual_seed(0)
  with torch.no_grad():
    for name, tensor in model.state_dict().items():
      if name.endswith("num_batches_tracked"):
        tensor.fill_(7)
      elif tensor.ndim > 1 and not name.startswith("embeddings"):
        fan_in = tensor[0].numel()
        tensor.normal_(std=fan_in**-0.5)
      elif name.endswith(("bias", "running_mean")):
        tensor.normal_(std=0.3)
      elif name.startswith("embeddings"):
        tensor.normal_()
      else:
        tensor.uniform_(0.5, 1.5)
  return model.eval()


def saved_state(model, folder):
  """The tensors under the names of the file that transformers saves."""
  model.save_pretrained(folder)
  return pretrained.read_safetensors(folder / "model.safetensors")


def dino_state(saved):
  """The same tensors under DINO's names, attention's three layers as one."""
  named = {}
  for name, tensor in saved.items():
    if ".query." in name:
      parts = (
        name.replace("query", part) for part in ("query", "key", "value")
      )
      tensor = np.concatenate([saved[part] for part in parts])
    elif ".key." in name or ".value." in name:
      continue
    for theirs, dino in DINO_NAMES:
      name = re.sub(theirs, dino, name)
    named[name] = tensor
  return named


def timm_state(dino):
  """DINOv2's tensors in the form of timm's models with registers."""
  renamed = {name: dino[name] for name in dino if "mask_token" not in name}
  renamed["reg_token"] = renamed.pop("register_tokens")
  positions = renamed["pos_embed"]
  renamed["cls_token"] = renamed["cls_token"] + positions[:, :1]
  renamed["pos_embed"] = positions[:, 1:].copy()
  return renamed


def torchvision_state(model):
  """The tensors of a `ResNetModel` under torchvision's names."""
  return {
    _torchvision_name(name): tensor.detach().numpy().copy()
    for name, tensor in model.state_dict().items()
  }


def _torchvision_name(name):
  layer, leaf = name.rsplit(".", 1)
  if layer in RESNET_LAYERS:
    return f"{RESNET_LAYERS[layer]}.{leaf}"
  parts = layer.split(".")
  block = f"layer{int(parts[2]) + 1}.{parts[4]}"
  is_norm = parts[-1] == "normalization"
  if parts[5] == "shortcut":
    return f"{block}.downsample.{int(is_norm)}.{leaf}"
  kind = "bn" if is_norm else "conv"
  return f"{block}.{kind}{int(parts[6]) + 1}.{leaf}"


def resnet_features(torch, model, images):
  """Features [batch, dim] of images [batch, height, width, 3]."""
  with torch.no_grad():
    pooled = model(torch.from_numpy(images).permute(0, 3, 1, 2)).pooler_output
  return pooled[:, :, 0, 0].numpy()


def set_positions(torch, model, *, offset):
  """Makes a model resize its positions by DINO's own rule."""
  embeddings = model.embeddings

  def interpolate(tokens, height, width):
    positions = embeddings.position_embeddings
    size = model.config.patch_size
    old = round((positions.shape[1] - 1) ** 0.5)
    if (height // size, width // size) == (old, old):
      return positions
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(
      grid,
      scale_factor=[
        (pixels // size + offset) / old for pixels in (height, width)
      ],
      mode="bicubic",
    )
    return torch.cat([positions[:, :1], grid.flatten(2).mT], dim=1)

  embeddings.interpolate_pos_encoding = interpolate


def vit_features(torch, model, images, *, use_patch_mean, **options):
  """Class tokens of the last 4 blocks, and the last mean patch if asked."""
  outputs = []
  layers = model.layers if hasattr(model, "layers") else model.encoder.layer
  hooks = [
    layer.register_forward_hook(lambda *args: outputs.append(args[2]))
    for layer in layers
  ]
  with torch.no_grad():
    model(torch.from_numpy(images).permute(0, 3, 1, 2), **options)
    outputs = [out[0] if isinstance(out, tuple) else out for out in outputs]
    tokens = [model.layernorm(out) for out in outputs[-4:]]
    features = [out[:, 0] for out in tokens]
    if use_patch_mean:
      first = 1 + getattr(model.config, "num_register_tokens", 0)
      features.append(tokens[-1][:, first:].mean(dim=1))
  for hook in hooks:
    hook.remove()
  return torch.cat(features, dim=1).numpy()
