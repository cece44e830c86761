"""What is released: the declared dependencies, the wheel and the sdist."""
