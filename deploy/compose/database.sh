#!/bin/sh
# What PostgreSQL does at its very first start: a role that owns one database, and nothing else of the server.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set password `cat /run/secrets/healthd_database`
CREATE ROLE healthd LOGIN PASSWORD :'password';
CREATE DATABASE healthd OWNER healthd ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE healthd FROM PUBLIC;
SQL
