"""Fetch urls politely and safely: the rules, the client, the stage."""
