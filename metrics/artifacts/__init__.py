"""What Prometheus and Grafana are given: scraping, rules, alerts, the dashboard; written as code, over the catalog.

``python -m metrics.artifacts`` writes the files beside this one; they are checked in, so that they can be used as they
are. Nothing here runs in a role.
"""
