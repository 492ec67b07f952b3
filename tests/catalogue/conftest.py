from __future__ import annotations

from tests.daemon.conftest import scene, sweeping

__all__ = ["scene", "sweeping"]
