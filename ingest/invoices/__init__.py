"""Invoices: their landing contract, documents made by it, and how they land."""
