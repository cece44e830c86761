-- Whether words of deleted documents were removed from a message. Such a message is not verified, and the blanked
-- sentences are not given to a model as history.
ALTER TABLE chat_messages ADD COLUMN redacted boolean NOT NULL DEFAULT false;
