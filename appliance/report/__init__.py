"""What papers say of a shipment: the report, and pages of HTML and PDF made of it."""
