"""The operator's pages, on the private listener: what is broken and why, who was told, and what can be done."""
