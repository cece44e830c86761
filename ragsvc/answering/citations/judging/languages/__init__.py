"""The words of each calibrated language that change what a sentence states."""
