"""The tail of somebody's own coding agent: runs a workflow when that agent wants to stop.

quick     answers from what is remembered, before anything heavy is imported
claude    what Claude Code gives and takes, as plain data; other agents get a module beside it
answer    what a run comes to for the agent and for its user; pure
drive     runs the workflow; the agent's session is the main agent
memory    what is remembered of a session; stamps: what the tree looked like
trust     what a repository may have run here: `runner allow`
settings  the hook's entry in Claude Code's settings, as text; pure
"""
