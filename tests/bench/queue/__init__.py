"""How fast a queue starts and finishes jobs: ours, arq as it comes, and BullMQ where node is there."""
