"""What one workspace can do to another one."""
