"""Ways to reach a person: one file each, all meeting the Protocol in ``base``."""
