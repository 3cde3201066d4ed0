"""Flower's configuration file: ``celery -A job_system flower`` reads it from the working directory."""

from job_system.flower_config import configure_logging, options, required

_settings = required()
configure_logging(_settings)
globals().update(options(_settings))
