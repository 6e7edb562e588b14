"""Reads what comes from files: workflows, agents, the user's configuration, inputs."""

from __future__ import annotations

from runner.loader.agents import load_agents
from runner.loader.builtin import builtin
from runner.loader.config import config_name, load_config
from runner.loader.find import find_workflow
from runner.loader.inputs import resolve_inputs
from runner.loader.language import workflow_schema
from runner.loader.load import load_workflow, parse_workflow
from runner.loader.steps import branch_problem

__all__ = [
    "branch_problem",
    "builtin",
    "config_name",
    "find_workflow",
    "load_agents",
    "load_config",
    "load_workflow",
    "parse_workflow",
    "resolve_inputs",
    "workflow_schema",
]
