-- Defects of a ready document: pages without text, undecodable characters.
ALTER TABLE documents ADD COLUMN warnings jsonb NOT NULL DEFAULT '[]';
