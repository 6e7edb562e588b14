"""The one loop: order, act, decide, record. `graph.Engine.run` is where to start reading."""
