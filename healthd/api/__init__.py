"""The operator's API: everything that the pages do, for scripts and other programs, under ``/api/v1``."""
