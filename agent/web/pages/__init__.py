"""The page that people use: server-rendered, served by the running agent on loopback, with htmx for what moves."""
