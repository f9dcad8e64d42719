"""Tables of a MySQL database into object storage, and what makes and loads the members of the assignment."""
