"""Runs of any sweep compared cell by cell: what differs between them, paired differences, tables, figures."""
