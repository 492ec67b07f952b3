from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("healthd", deadline=None)
settings.load_profile("healthd")
