"""Package metadata; tools are configured in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
version = re.search(
    r'__version__ = "(.+)"',
    (here / "keras_bregman" / "__init__.py").read_text(),
).group(1)

test = [
    "hypothesis",
    "ipykernel",
    "nbclient",  # runs the notebooks
    "pytest",
    "pytest-xdist",
    "tensorboard",
]
experiments = [
    "importlib_resources",  # tensorflow-datasets needs it, undeclared
    "matplotlib",
    "scikit-learn",
    "tensorflow-datasets",
]
tune = [
    "keras-tuner>=1.4.8",
    "matplotlib",  # for the front
    "scikit-learn",  # for BayesianOptimization
    # keras-tuner needs them, undeclared
    "six",
    "tensorboard",
]
docs = [
    "mkdocs-jupyter>=0.26",
    "mkdocs-material>=9.7",
    "mkdocstrings[python]>=1.0",
]
export = ["ai-edge-litert>=2.3", "onnxruntime", "tf2onnx"]

setup(
    name="keras-bregman",
    version=version,
    description="Sparse training for Keras 3 by choice of optimizer",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["keras_bregman*"]),
    package_data={"keras_bregman": ["py.typed"]},
    install_requires=["keras>=3.15", "numpy"],
    extras_require={
        "tensorflow": ["tensorflow>=2.21"],
        "jax": ["jax>=0.10"],
        "torch": ["torch>=2.13"],
        "experiments": experiments,
        "tune": tune,
        "export": export,
        "plot": ["matplotlib"],
        "test": test,
        "docs": docs,
        "dev": [*test, *docs, "mypy", "ruff"],
    },
    entry_points={"console_scripts": ["keras-bregman=keras_bregman.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
