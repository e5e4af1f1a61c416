"""One kernel or model family per file, without Spark sessions, tables or tracking."""
