"""The files of deploy/ are what they say, and the layout that they describe works."""
