"""From scores.json to tables, figures and one page. Imports no torch."""
