"""The life of a job: claim, renew, finish, fail, sweep, dead-letter, replay."""
