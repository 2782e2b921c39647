"""From verdicts to tables, figures and one page."""
