"""Social APIs: one file each, all meeting the Protocol in ``base``."""
