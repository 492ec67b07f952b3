"""What outlives the process. Queries are plain synchronous functions of a connection; ``database.Store`` runs them."""
