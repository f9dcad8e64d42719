"""What Databricks supplies and a laptop lacks: Java, jars, servers, a catalog, and a Spark session on them."""
