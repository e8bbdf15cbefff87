"""The HTTP API of the local agent: the operations, with a token, for programs on this laptop."""
