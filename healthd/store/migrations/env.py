"""Alembic's entry: runs in process, on the connection it is handed."""

from alembic import context

from healthd.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()
