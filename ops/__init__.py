"""Operating the lakehouse in a workspace: `lakehouse-ops`. Deployment is the bundle's, not this package's."""
