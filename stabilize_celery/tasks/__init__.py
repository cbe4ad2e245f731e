"""Ready-made tasks, the interface of a task, and the registry that workers load."""
