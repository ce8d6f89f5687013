"""Installs what `make dist` built, as a user would, and uses it.

    python tests/tools/check_dist.py dist --python python3.12 --backends jax

Wheel and sdist each get an environment of their own, outside the repository,
with every backend that is named; nothing of this one is seen there.
"""

import argparse
import os
import pathlib
import subprocess
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = pathlib.Path(__file__).with_name("smoke.py")


def package():
    """Names of the package's files, as they are in the repository."""
    files = (ROOT / "keras_bregman").rglob("*")
    names = {
        str(f.relative_to(ROOT)) for f in files if f.suffix in (".py", ".typed")
    }
    assert "keras_bregman/py.typed" in names
    return names


def check_contents(wheel, sdist):
    """The package and its license; neither tests nor experiments."""
    names = set(zipfile.ZipFile(wheel).namelist())
    stem = "-".join(wheel.name.split("-")[:2])
    info = {n for n in names if n.startswith(f"{stem}.dist-info/")}
    assert names - info == package(), (names - info) ^ package()
    assert f"{stem}.dist-info/licenses/LICENSE" in info
    with tarfile.open(sdist) as archive:
        files = [m.name for m in archive.getmembers() if m.isfile()]
    names = {n.removeprefix(f"{stem}/") for n in files}
    rest = {n for n in names - package() if ".egg-info/" not in n}
    assert package() <= names, package() - names
    assert rest == {
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "MANIFEST.in",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
        "setup.py",
    }, rest


def check_use(file, python, backends):
    """Installs `file` into a fresh environment and runs the smoke program."""
    with tempfile.TemporaryDirectory() as folder:

        def run(*command, **variables):
            # -I below: neither PYTHONPATH nor the folder is looked into
            print("$", *command, flush=True)
            subprocess.run(
                list(map(str, command)),
                check=True,
                cwd=folder,
                env={**os.environ, **variables},
            )

        home = pathlib.Path(folder) / "env"
        run(python, "-m", "venv", home)
        bin = home / "bin"
        extras = ",".join(backends)
        run(bin / "python", "-I", "-m", "pip", "install", "-q",
            f"{file.resolve()}[{extras}]")  # fmt: skip
        for backend in backends:
            model = pathlib.Path(folder) / f"{backend}.kbs"
            choice = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            run(bin / "python", "-I", SMOKE, model, **choice)
            run(bin / "keras-bregman", "density", model, **choice)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dist", type=pathlib.Path)
    parser.add_argument("--python", default="python3")
    parser.add_argument("--backends", nargs="+", default=["jax"])
    options = parser.parse_args()
    (wheel,) = options.dist.glob("*.whl")
    (sdist,) = options.dist.glob("*.tar.gz")
    check_contents(wheel, sdist)
    for file in (wheel, sdist):
        check_use(file, options.python, options.backends)


if __name__ == "__main__":
    main()
