"""Pictures of what goes on inside trained networks."""
