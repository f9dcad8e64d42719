"""Dashboards, and the step that puts their SQL into them."""
