-- Each tail of a tus upload is an object of its own, and the row names the one that counts. A writer that has lost its
-- lease can therefore not replace the tail of its successor, however late its request reaches the store.
ALTER TABLE upload_sessions ADD COLUMN tail_id uuid;
