"""The Kubernetes manifests, as code: what the roles have in common stands once, and the dashboard and the rules are
those of ``metrics/artifacts``. ``python -m tools.manifests`` writes ``kubernetes/``; the files are checked in.
"""
