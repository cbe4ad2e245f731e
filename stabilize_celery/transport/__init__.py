"""The only importer of celery and kombu."""
