"""Flower's configuration file: ``celery -A job_system flower`` reads it from the working directory."""

from job_system.flower_config import options, prepare, required

_settings = required()
prepare(_settings)
globals().update(options(_settings))
