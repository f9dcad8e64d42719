"""AI/BI dashboards (`.lvdash.json`): read, checked, and shown as a page that needs no workspace."""
