"""A local web page with the jobs, pipelines and tables of a bundle."""
