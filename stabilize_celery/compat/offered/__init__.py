"""The names of `stabilize_celery.compat`, by what they are about; a program imports them from there."""
