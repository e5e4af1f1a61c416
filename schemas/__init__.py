"""The tables: one module per table, importing nothing but Spark's types."""
