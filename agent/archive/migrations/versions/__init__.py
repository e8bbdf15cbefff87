"""One module per migration, oldest first; each is fixed once released."""
