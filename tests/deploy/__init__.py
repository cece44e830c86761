"""The files of deploy/ are valid and consistent, and the layout that they describe works."""
