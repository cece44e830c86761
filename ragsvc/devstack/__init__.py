"""The whole service on one machine: its servers, installed from wheels, run by one supervisor."""
