"""Caption pairs: in archives, tables and folders."""
