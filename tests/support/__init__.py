"""What tests share: the servers they run against, and a model server that can be told to fail."""
