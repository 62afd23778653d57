"""The networks of the table in NumPy, written down from their papers."""

import cv2
import numpy as np
from PIL import Image
from scipy import special

RESNET_EPSILON = 1e-5
TRANSFORMER_EPSILON = 1e-6


def _windows(inputs, kernel, stride, padding):
  """Padded inputs, the size of the output, and where the padding begins."""
  sizes, starts = [], []
  for size, window in zip(inputs.shape[1:3], kernel.shape[:2], strict=True):
    out = -(-size // stride)
    if padding == "SAME":  # TensorFlow's: an odd zero at the end
      starts.append(max((out - 1) * stride + window - size, 0) // 2)
    else:
      starts.append(padding)
    sizes.append(out)
  pads = [
    (start, max((out - 1) * stride + window - start - size, 0))
    for size, window, out, start in zip(
      inputs.shape[1:3], kernel.shape[:2], sizes, starts, strict=True
    )
  ]
  padded = np.pad(np.float64(inputs), ((0, 0), *pads, (0, 0)))
  return padded, sizes, starts


def _taps(padded, kernel, sizes, stride):
  """Each position of the kernel, with the pixels of all groups that it sees."""
  rows, columns, group_size, num_outputs = kernel.shape
  groups = padded.shape[-1] // group_size
  for i, j in np.ndindex(rows, columns):
    at = np.s_[
      :, i : i + stride * sizes[0] : stride, j : j + stride * sizes[1] : stride
    ]
    pixels = padded[at]
    yield (
      (i, j),
      at,
      pixels.reshape(*pixels.shape[:3], groups, group_size),
      np.float64(kernel[i, j]).reshape(group_size, groups, -1),
    )


def conv(
  inputs, kernel, stride: int = 1, padding: int | str = "SAME"
) -> np.ndarray:
  """Convolution of [batch, height, width, channels], also in groups."""
  padded, sizes, _ = _windows(inputs, kernel, stride, padding)
  taps = [
    np.einsum("nhwgi,igo->nhwgo", pixels, weights)
    for _, _, pixels, weights in _taps(padded, kernel, sizes, stride)
  ]
  outputs = np.sum(taps, axis=0)
  return outputs.reshape(*outputs.shape[:3], -1)


def conv_gradients(inputs, kernel, slopes, stride=1):
  """Gradients of `(slopes * conv(inputs, kernel, stride)).sum()`."""
  padded, sizes, (top, left) = _windows(inputs, kernel, stride, "SAME")
  of_padded, of_kernel = np.zeros_like(padded), np.zeros(kernel.shape)
  groups = padded.shape[-1] // kernel.shape[2]
  grouped = slopes.reshape(*slopes.shape[:3], groups, -1)
  for tap, at, pixels, weights in _taps(padded, kernel, sizes, stride):
    shared = np.einsum("nhwgi,nhwgo->igo", pixels, grouped)
    of_kernel[tap] = shared.reshape(kernel.shape[2:])
    back = np.einsum("nhwgo,igo->nhwgi", grouped, weights)
    of_padded[at] += back.reshape(*back.shape[:3], -1)
  height, width = inputs.shape[1:3]
  return of_padded[:, top : top + height, left : left + width], of_kernel


def relu(inputs):
  return np.maximum(inputs, 0)


def relu6(inputs):
  return np.clip(inputs, 0, 6)


def resnet(variables, images, train=False):
  """Features, output of each stage, and the batch's statistics by path."""
  params, stats = variables["params"], variables["batch_stats"]
  found = {}

  def norm(path, outputs):
    layer, moments = params, stats
    for step in path:
      layer, moments = layer[step], moments[step]
    mean, var = moments["mean"], moments["var"]
    if train:
      mean, var = outputs.mean(axis=(0, 1, 2)), outputs.var(axis=(0, 1, 2))
      found[path] = mean, var
    outputs = (outputs - mean) / np.sqrt(var + RESNET_EPSILON)
    return outputs * layer["scale"] + layer["bias"]

  outputs = conv(images, params["conv1"]["kernel"], 2, 3)
  outputs = relu(norm(("bn1",), outputs))
  height, width = (-(-side // 2) for side in outputs.shape[1:3])
  pads = ((0, 0), (1, 2), (1, 2), (0, 0))
  padded = np.pad(outputs, pads, constant_values=-np.inf)
  outputs = np.max(
    [
      padded[:, i : i + 2 * height : 2, j : j + 2 * width : 2]
      for i, j in np.ndindex(3, 3)
    ],
    axis=0,
  )
  stages = []
  blocks = sorted(name for name in params if name.startswith("layer"))
  for name in blocks:
    stage, index = map(int, name.removeprefix("layer").split("_"))
    stride = 2 if stage > 1 and index == 0 else 1
    block, inputs = params[name], outputs
    num_convs = 3 if "conv3" in block else 2
    for number in range(1, num_convs + 1):
      kernel = block[f"conv{number}"]["kernel"]
      # The one of windows of 3 pixels strides, the first where both have them.
      strides = stride if number == num_convs - 1 else 1
      outputs = conv(outputs, kernel, strides, kernel.shape[0] // 2)
      outputs = norm((name, f"bn{number}"), outputs)
      if number < num_convs:
        outputs = relu(outputs)
    if "downsample_0" in block:
      inputs = conv(inputs, block["downsample_0"]["kernel"], stride, 0)
      inputs = norm((name, "downsample_1"), inputs)
    outputs = relu(inputs + outputs)
    if f"layer{stage}_{index + 1}" not in params:
      stages.append(outputs.mean(axis=(1, 2)))
  return stages[-1], stages, found


def _conv_layer(layer, inputs, stride=1):
  return conv(inputs, layer["kernel"], stride) + layer["bias"]


def mobilenet(params, images, strides, last_blocks):
  """Features and stages; the strides of all blocks, and which are stages."""
  outputs = relu6(_conv_layer(params["stem"], images, 2))
  stages = []
  for number, stride in enumerate(strides, start=1):
    block, inputs = params[f"block{number}"], outputs
    if "expand" in block:
      outputs = relu6(_conv_layer(block["expand"], outputs))
    outputs = relu6(_conv_layer(block["depthwise"], outputs, stride))
    outputs = _conv_layer(block["project"], outputs)
    if stride == 1 and inputs.shape == outputs.shape:
      outputs = inputs + outputs
    if number in last_blocks:
      stages.append(outputs.mean(axis=(1, 2)))
  outputs = relu6(_conv_layer(params["last"], outputs))
  return outputs.mean(axis=(1, 2)), stages


def small_cnn(params, images):
  """Features and stages of a network without batch normalization."""
  outputs = relu(_conv_layer(params["stem"], images, 2))
  stages = []
  for number in range(3):
    outputs = relu(_conv_layer(params[f"reduce{number}"], outputs, 2))
    residual = relu(_conv_layer(params[f"expand{number}"], outputs))
    residual = _conv_layer(params[f"refine{number}"], residual)
    outputs = relu(outputs + residual)
    stages.append(outputs.mean(axis=(1, 2)))
  joined = np.concatenate(stages[-2:], axis=-1)
  project = params["project"]
  return joined @ project["kernel"] + project["bias"], stages


def resize_grid(grid, shape, offset, antialias):
  """Bicubic positions; OpenCV and Pillow have PyTorch's two kernels."""
  if grid.shape[:2] == shape:
    return grid
  channels = np.moveaxis(np.asarray(grid, np.float32), -1, 0)
  if antialias:
    size = (shape[1], shape[0])
    resized = [
      np.asarray(Image.fromarray(c).resize(size, Image.Resampling.BICUBIC))
      for c in channels
    ]
  else:
    factors = [
      (n + offset) / o for n, o in zip(shape, grid.shape, strict=False)
    ]
    resized = [
      cv2.resize(
        c, None, fx=factors[1], fy=factors[0], interpolation=cv2.INTER_CUBIC
      )
      for c in channels
    ]
  return np.stack(resized, axis=-1)


def layer_norm(layer, tokens):
  mean, var = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
  tokens = (tokens - mean) / np.sqrt(var + TRANSFORMER_EPSILON)
  return tokens * layer["scale"] + layer["bias"]


def dense(layer, tokens):
  return tokens @ np.float64(layer["kernel"]) + layer["bias"]


def attention(layer, tokens, num_heads):
  batch, length, width = tokens.shape
  qkv = dense(layer["qkv"], tokens).reshape(batch, length, 3, num_heads, -1)
  query, key, value = np.moveaxis(qkv, 2, 0)
  scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(key.shape[-1])
  mixed = np.einsum("bhqk,bkhd->bqhd", special.softmax(scores, axis=-1), value)
  return dense(layer["proj"], mixed.reshape(batch, length, width))


def mlp(layer, tokens):
  hidden = dense(layer["fc1"], tokens)
  hidden = hidden * special.ndtr(hidden)  # the exact GELU
  return dense(layer["fc2"], hidden)


def vision_transformer(module, params, images):
  """Features, and the class tokens that are its stages."""
  size, width = module.patch_size, module.width
  rows, columns = images.shape[1] // size, images.shape[2] // size
  kernel = params["patch_embed"]["kernel"]
  patches = np.zeros((len(images), rows, columns, width))
  for row, column in np.ndindex(rows, columns):
    patch = images[
      :, row * size : (row + 1) * size, column * size : (column + 1) * size
    ]
    patches[:, row, column] = np.einsum("nijc,ijcw->nw", patch, kernel)
  patches += params["patch_embed"]["bias"]
  positions = params["pos_embed"][0]
  side = module.grid_size
  patches += resize_grid(
    positions[1:].reshape(side, side, width),
    (rows, columns),
    module.grid_offset,
    module.antialias,
  )
  first = [params["cls_token"][0] + positions[:1]]
  if module.num_registers:
    first.append(params["register_tokens"][0])
  first = np.concatenate(first)
  tokens = np.concatenate(
    [
      np.broadcast_to(first, (len(images), *first.shape)),
      patches.reshape(len(images), -1, width),
    ],
    axis=1,
  )
  stages = []
  for number in range(module.depth):
    block = params[f"blocks_{number}"]
    for index, layer in ((1, "attn"), (2, "mlp")):
      update = layer_norm(block[f"norm{index}"], tokens)
      if layer == "attn":
        update = attention(block["attn"], update, module.num_heads)
      else:
        update = mlp(block["mlp"], update)
      if module.use_layer_scale:
        update = update * block[f"ls{index}"]["gamma"]
      tokens = tokens + update
    if number >= module.depth - 4:
      stages.append(layer_norm(params["norm"], tokens[:, 0]))
  features = list(stages)
  if module.use_patch_mean:
    patches = layer_norm(params["norm"], tokens[:, 1 + module.num_registers :])
    features.append(patches.mean(axis=1))
  return np.concatenate(features, axis=-1), stages
