"""Runs of any sweep compared cell by cell: which runs, what differs between them, paired differences, tables, figures."""
