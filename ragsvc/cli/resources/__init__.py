"""Commands that list, show and delete what the API stores: one module per resource."""
