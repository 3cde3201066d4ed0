"""The embedded stack: a local Valkey, Triton and Weaviate, and the roles, under supervisord."""

from stack import prometheus
from stack.installing import install_all
from stack.supervisor import ProcessState, running_states
from stack.up import ROLES, Stack

__all__ = ["ROLES", "ProcessState", "Stack", "install_all", "prometheus", "running_states"]
