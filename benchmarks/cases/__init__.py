"""What is measured: a module a case, each with a ``run`` that gives a section of the report."""
