"""Pages and answers over HTTP: the reconnect page in public, operations in private."""
