"""Package metadata; tools are configured in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
readme = (here / "README.md").read_text(encoding="utf-8")
# an index shows it without the repository: no pictures, links without aim
readme = re.sub(r"!\[[^]]*\]\((?!http)[^)]*\)\n*", "", readme)
readme = re.sub(r"\[([^]]*)\]\((?!http)[^)]*\)", r"\1", readme)
version = re.search(
    r'__version__ = "(.+)"',
    (here / "keras_bregman" / "__init__.py").read_text(encoding="utf-8"),
).group(1)

test = [
    "hypothesis",
    "ipykernel",
    "nbclient",  # runs the notebooks
    "pytest",
    "pytest-cov",
    "pytest-xdist",
    "tensorboard",
]
experiments = [
    "importlib_resources",  # tensorflow-datasets needs it, undeclared
    "matplotlib",
    "scikit-learn",
    "scipy",
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
export = ["ai-edge-litert>=2.3", "onnxruntime", "tf2onnx>=1.17"]

setup(
    name="keras-bregman",
    version=version,
    description="Sparse training for Keras 3 by choice of optimizer",
    long_description=readme,
    long_description_content_type="text/markdown",
    author="The keras_bregman authors",
    license="MIT",
    license_files=["LICENSE"],
    keywords=[
        "keras",
        "optimizer",
        "sparsity",
        "sparse training",
        "pruning",
        "Bregman iterations",
        "mirror descent",
        "compression",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["keras_bregman*"]),
    package_data={"keras_bregman": ["py.typed"]},
    install_requires=["keras>=3.10", "numpy>=2.0"],
    extras_require={
        "tensorflow": ["tensorflow>=2.19"],
        "jax": ["jax>=0.8"],
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
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
