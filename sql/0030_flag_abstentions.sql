-- A message shows why its answer ended, so that clients recognise an abstention without comparing its text. A session can
-- have a text of its own for it.
ALTER TABLE chat_messages ADD COLUMN finish_reason text;
ALTER TABLE chat_sessions ADD COLUMN no_answer_text text;
