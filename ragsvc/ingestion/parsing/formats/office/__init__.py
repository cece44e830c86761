"""Office formats: word processor documents, spreadsheets and presentations."""
