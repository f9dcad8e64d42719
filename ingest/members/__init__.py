"""The members: their table, a generator of them, the loader and the job that lands them."""
