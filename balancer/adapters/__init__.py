"""The world behind the ports: Redis, Celery control, DuckDB, and twins in memory for tests."""
