"""The lines of Node that Pando's cluster is tested with: the oldest and the newest in `make test`, all of them at night."""
import platform
from pathlib import Path

import pytest

from pando import NIGHTLY, ROOT

FOLDER = ROOT / "tests/node"
APPS = FOLDER / "apps"
MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OF_FOLDER = {"lines": ("18", "26"), "more": ("20", "22", "24")}


def binary(line):
    folder = next(folder for folder, lines in OF_FOLDER.items() if line in lines)
    return FOLDER / folder / f"node_modules/node{line}-{MACHINE}/bin/node"


def _parameter(line):
    missing = not Path(binary(line)).exists()
    return pytest.param(str(binary(line)), id=f"node{line}",
                        marks=pytest.mark.skipif(missing, reason=f"Node {line} is not installed: tools/deps.sh test"))


LINES = [_parameter(line) for folder, lines in OF_FOLDER.items() if folder == "lines" or NIGHTLY for line in lines]
NEWEST = _parameter("26")


def node_app(name):
    return str(APPS / name)
