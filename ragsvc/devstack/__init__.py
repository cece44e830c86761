"""The whole service on one machine: its servers out of wheels, kept running by one supervisor."""
