"""The removal of content on request: from every table, from the files, and for good."""
