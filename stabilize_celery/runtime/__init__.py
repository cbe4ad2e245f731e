"""The unit of work: load, decide, commit, retry; runs task bodies. Knows neither Celery nor Redis."""
