"""Whole runs in virtual time, each from one seed: `python -m tests.simulation --seeds 200`.

The product's own code runs: engine, policy, journal, money, agents, resume. Told from outside are
the clock, processes, tree and repository (`runner.session.Outside`) and the models (scripts).

    seed -> story (workflow, world, models, mishaps) -> lives, each a process -> checks
"""
