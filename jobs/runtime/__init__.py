"""Every side effect: session, tables, streams, lineage, quality, configuration, models."""
