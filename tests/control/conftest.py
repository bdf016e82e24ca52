"""``scene``: a proxy in memory, its controls, and a site of the admin API to ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from controls_scene import TOKEN, Scene


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "admin.token"
    path.write_text(f"alice {TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def scene(token_file: Path) -> Scene:
    return Scene(token_file)
