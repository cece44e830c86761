"""The evaluation of retrieval: `make eval` judges what search finds on questions whose answers are known."""
