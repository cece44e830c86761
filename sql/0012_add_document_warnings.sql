-- What a reader of a ready document should know: its pages without text, characters that could not be read.
ALTER TABLE documents ADD COLUMN warnings jsonb NOT NULL DEFAULT '[]';
